//! Signatures of bundles, in minisign's format.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gem_platform::file::LARGEST_FILE;
use minisign::{PublicKey, SecretKey, SecretKeyBox};

use crate::error::{Failure, Kind};
use crate::place;

/// The first bytes of every minisign key.
const SIGNATURES: &[u8] = b"Ed";
/// The bytes that mark a key as not encrypted.
const NO_PASSWORD: &[u8] = &[0, 0];

/// A signature, and the public key that verifies it.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) signature: String,
    pub(super) public_key: String,
}

/// Reads the secret key in the file `key`; asks at the terminal for the password of an encrypted key.
pub(super) fn read_key(key: &Path) -> Result<SecretKey, Failure> {
    let stored = place::read_text(key);
    let stored = stored.map_err(|error| unusable_key(key, Refused::no_key(error.to_string())))?;
    secret_of(&stored, key).map_err(|refused| unusable_key(key, refused))
}

fn unusable_key(key: &Path, Refused { reason, hint }: Refused) -> Failure {
    let message = format!("cannot sign with the key `{}`: {reason}", key.display());
    Failure::new(Kind::Usage, message).with_hint(hint)
}

/// Signs `text` with `secret`, which was read from the file `key`.
pub(super) fn sign(key: &Path, secret: &SecretKey, text: &str) -> Result<Signed, Failure> {
    let damaged =
        |reason: &dyn std::fmt::Display| unusable_key(key, Refused::no_key(format!("it is damaged: {reason}")));
    let public = PublicKey::from_secret_key(secret).map_err(|error| damaged(&error))?;
    let comment = Some("a bundle of gem-setup");
    let signature = minisign::sign(Some(&public), secret, text.as_bytes(), comment, None);
    let signed = Signed {
        signature: signature.map_err(|error| damaged(&error))?.into_string(),
        public_key: public.to_base64(),
    };
    // A key without a password lacks a checksum, so only this shows damage.
    read_public_key(&signed.public_key)
        .map_err(|failure| failure.message)
        .and_then(|key| verify(&key, text, &signed.signature))
        .map_err(|_| damaged(&"its two halves do not match"))?;
    Ok(signed)
}

/// Why a key cannot be used, and the hint.
struct Refused {
    reason: String,
    hint: String,
}

impl Refused {
    fn no_key(reason: String) -> Self {
        let hint =
            "pass a secret key file made by `minisign -G` (`-W` for one without a password) with `--sign`".to_owned();
        Self { reason, hint }
    }
}

/// Decodes the secret key `stored` in the file `path`.
fn secret_of(stored: &str, path: &Path) -> Result<SecretKey, Refused> {
    let line = stored.lines().nth(1).unwrap_or_default().trim();
    let bytes = STANDARD.decode(line).ok().filter(|bytes| bytes.starts_with(SIGNATURES));
    let bytes = bytes.ok_or_else(|| Refused::no_key("it is not a minisign secret key".to_owned()))?;
    let unusable = |error: minisign::PError| Refused::no_key(error.to_string());
    if bytes.get(2..4) == Some(NO_PASSWORD) {
        // The crate requires a checksum, which minisign writes only for encrypted keys.
        return SecretKey::from_bytes(&bytes).map_err(unusable);
    }
    let sealed = SecretKeyBox::from_string(stored).map_err(unusable)?;
    let question = format!("Password of the key `{}`: ", path.display());
    let password = rpassword::prompt_password(question).map_err(|error| Refused {
        reason: format!("it has a password, and there is no terminal to ask for it: {error}"),
        hint: format!(
            "run the command at a terminal, or sign with a copy of the key without a password: copy `{}` to COPY, \
            then run `minisign -C -W -s COPY`",
            path.display()
        ),
    })?;
    sealed.into_secret_key(Some(password)).map_err(|error| Refused {
        reason: error.to_string(),
        hint: "run the command again with the key's password".to_owned(),
    })
}

/// The public key `key`, or the one in the file of that name.
pub(super) fn read_public_key(key: &str) -> Result<minisign_verify::PublicKey, Failure> {
    let file = place::read_given(Path::new(key), LARGEST_FILE).and_then(place::text);
    let found = match file {
        Ok(file) => minisign_verify::PublicKey::decode(&file),
        Err(_) => minisign_verify::PublicKey::from_base64(key.trim()),
    };
    found.map_err(|error| {
        let message = format!("cannot use the public key `{key}`: {error}");
        Failure::new(Kind::Usage, message).with_hint(
            "pass the key that `gem-setup bundle create --sign` printed, or the path of the `.pub` file that minisign wrote",
        )
    })
}

/// Verifies `signature` of `text` with `key`. The error names the fault.
pub(super) fn verify(key: &minisign_verify::PublicKey, text: &str, signature: &str) -> Result<(), String> {
    let signature = minisign_verify::Signature::decode(signature);
    let signature = signature.map_err(|error| format!("its signature cannot be read: {error}"))?;
    key.verify(text.as_bytes(), &signature, false)
        .map_err(|error| format!("its signature was not made with that key: {error}"))
}

#[cfg(test)]
mod tests {
    use minisign::KeyPair;

    use super::*;

    #[test]
    fn a_signature_holds_for_its_text_and_key_alone() {
        let directory = tempfile::tempdir().unwrap();
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let file = directory.path().join("key");
        std::fs::write(&file, pair.sk.to_box(None).unwrap().to_string()).unwrap();
        let signed = sign(&file, &read_key(&file).unwrap(), "text").unwrap();
        let public = read_public_key(&signed.public_key).unwrap();
        assert_eq!(verify(&public, "text", &signed.signature), Ok(()));
        assert!(verify(&public, "another", &signed.signature).is_err());
        let other = KeyPair::generate_unencrypted_keypair().unwrap().pk.to_base64();
        assert!(verify(&read_public_key(&other).unwrap(), "text", &signed.signature).is_err());
        assert!(read_public_key("nonsense").unwrap_err().message.contains("nonsense"));
    }
}
