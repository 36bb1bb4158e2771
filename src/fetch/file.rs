//! Sources on this machine: `file:` URLs.

use std::fs::File;
use std::io::Read;

use bytes::BytesMut;
use gem_platform::file::open_regular;
use url::Url;

use super::error::Error;
use super::partial::Identity;
use super::retry::Fault;
use super::store::Closed;
use super::transfer::Transfer;

/// The size of one read, in bytes.
const READ: usize = 256 * 1024;

/// Opens the file at `url`; returns it with its size in bytes.
pub(super) fn open(url: &Url) -> Result<(File, u64), Fault> {
    let path = url
        .to_file_path()
        .map_err(|()| Fault::Unusable("it is not a path on this system".to_owned()))?;
    let file = open_regular(&path).map_err(|e| unreadable(&e))?;
    let length = file.metadata().map_err(|e| unreadable(&e))?.len();
    Ok((file, length))
}

fn unreadable(error: &std::io::Error) -> Fault {
    Fault::Unusable(error.to_string())
}

/// Copies the file at `url` to the store, like a download.
pub(super) async fn copy(transfer: &Transfer<'_>, url: &Url) -> Result<(), Fault> {
    let (file, length) = open(url)?;
    let expected = transfer.request.size;
    if expected > 0 && expected != length {
        return Err(Fault::Fatal(Error::Size {
            url: url.into(),
            expected,
            found: length,
        }));
    }
    let identity = |length| Identity {
        validator: None,
        length: Some(length),
    };
    // Bytes from other sources are discarded even if the copy fails.
    transfer.plan().start_over(Identity::default());
    transfer.store.restart(identity(length)).await?;
    let write = transfer.store.blocking_writer();
    let copied = tokio::task::spawn_blocking(move || pour(file, write)).await;
    let copied = copied.unwrap_or_else(|_| Err(Closed.into()))?;
    let mut plan = transfer.plan();
    plan.identity = identity(copied);
    plan.received = std::iter::once(0..copied).collect();
    Ok(())
}

/// Passes all of `file` to `write`; returns the number of bytes.
fn pour(mut file: File, mut write: impl FnMut(u64, bytes::Bytes) -> Result<(), Closed>) -> Result<u64, Fault> {
    let mut position = 0;
    loop {
        let mut buffer = BytesMut::zeroed(READ);
        let read = file.read(&mut buffer).map_err(|e| unreadable(&e))?;
        if read == 0 {
            return Ok(position);
        }
        buffer.truncate(read);
        write(position, buffer.freeze())?;
        position += read as u64;
    }
}
