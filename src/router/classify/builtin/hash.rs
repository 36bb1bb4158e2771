//! Hashing that is the same on every platform and in every version: FNV-1a over bytes, finished so that its low bits can be used.

/// A running 32-bit FNV-1a hash.
#[derive(Clone, Copy)]
pub(super) struct Fnv(u32);

impl Fnv {
    pub(super) const fn new() -> Self {
        Self(0x811c_9dc5)
    }

    /// A hash that differs by `namespace`, for what would otherwise hash alike.
    pub(super) const fn within(namespace: u32) -> Self {
        Self::new().word(namespace)
    }

    pub(super) const fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u32).wrapping_mul(0x0100_0193))
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self, |hash, &byte| hash.byte(byte))
    }

    pub(super) const fn word(self, word: u32) -> Self {
        let [a, b, c, d] = word.to_le_bytes();
        self.byte(a).byte(b).byte(c).byte(d)
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
