//! A hash that is the same on every platform and in every version: FNV-1a over bytes, finished so that its low bits are usable.

/// A running 32-bit FNV-1a hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fnv(u32);

impl Fnv {
    pub(super) const fn new() -> Self {
        Self(0x811c_9dc5)
    }

    /// A hash that differs by `namespace`, for features that would otherwise have equal hashes.
    pub(super) const fn within(namespace: u32) -> Self {
        Self::new().word(namespace)
    }

    pub(super) const fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u32).wrapping_mul(0x0100_0193))
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self, |hash, &byte| hash.byte(byte))
    }

    /// Takes a whole word at once, as MurmurHash3 does: four times as fast as byte by byte.
    pub(super) const fn word(self, word: u32) -> Self {
        Self(
            (self.0 ^ word)
                .wrapping_mul(0x9e37_79b1)
                .rotate_left(13)
                .wrapping_mul(5)
                .wrapping_add(0xe654_6b64),
        )
    }

    /// The hash with its bits mixed (the finaliser of MurmurHash3).
    pub(super) const fn finish(self) -> u32 {
        let mut h = self.0;
        h ^= h >> 16;
        h = h.wrapping_mul(0x85eb_ca6b);
        h ^= h >> 13;
        h = h.wrapping_mul(0xc2b2_ae35);
        h ^ (h >> 16)
    }
}
