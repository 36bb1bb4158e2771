//! Which target a file of machine code is for, by the header of its format.

use crate::{Arch, Os, Target};

/// As many bytes of a file as [`target`] may need.
pub(super) const HEADER: usize = 4096;

/// The target of a file that begins with `bytes`.
///
/// Formats: ELF (System V ABI, chapter 4; any 64-bit little-endian ELF file is taken for Linux's), Mach-O
/// (`mach-o/loader.h`), PE (Microsoft's PE format, sections "MS-DOS stub" and "COFF file header").
pub(super) fn target(bytes: &[u8]) -> Option<Target> {
    elf(bytes).or_else(|| mach_o(bytes)).or_else(|| pe(bytes))
}

fn elf(bytes: &[u8]) -> Option<Target> {
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    match u16_at(bytes, 18)? {
        62 => Some(Target::new(Os::Linux, Arch::X86_64)),
        183 => Some(Target::new(Os::Linux, Arch::Arm64)),
        _ => None,
    }
}

fn mach_o(bytes: &[u8]) -> Option<Target> {
    if u32_at(bytes, 0)? != 0xfeed_facf {
        return None;
    }
    match u32_at(bytes, 4)? {
        0x0100_0007 => Some(Target::new(Os::Macos, Arch::X86_64)),
        0x0100_000c => Some(Target::new(Os::Macos, Arch::Arm64)),
        _ => None,
    }
}

fn pe(bytes: &[u8]) -> Option<Target> {
    if !bytes.starts_with(b"MZ") {
        return None;
    }
    let header = usize::try_from(u32_at(bytes, 0x3c)?).ok()?;
    if bytes.get(header..header.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    match u16_at(bytes, header + 4)? {
        0x8664 => Some(Target::new(Os::Windows, Arch::X86_64)),
        0xaa64 => Some(Target::new(Os::Windows, Arch::Arm64)),
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(field.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pe_of(machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; 0x80];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x40;
        bytes[0x40..0x44].copy_from_slice(b"PE\0\0");
        bytes[0x44..0x46].copy_from_slice(&machine.to_le_bytes());
        bytes
    }

    fn elf_of(machine: u8) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(64, 0);
        bytes[18] = machine;
        bytes
    }

    #[test]
    fn each_format_tells_its_processor() {
        let cases = [
            (elf_of(62), "linux-x86_64"),
            (elf_of(183), "linux-arm64"),
            (b"\xcf\xfa\xed\xfe\x07\0\0\x01".to_vec(), "macos-x86_64"),
            (b"\xcf\xfa\xed\xfe\x0c\0\0\x01".to_vec(), "macos-arm64"),
            (pe_of(0x8664), "windows-x86_64"),
            (pe_of(0xaa64), "windows-arm64"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(target(&bytes).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn other_files_have_no_target_however_short_or_misleading() {
        let mut far = pe_of(0x8664);
        far[0x3c..0x40].copy_from_slice(&u32::MAX.to_le_bytes());
        for bytes in [
            &b""[..],
            b"MZ",
            b"\x7fELF",
            b"\x7fELF\x02\x01",
            b"#!/bin/sh\nexit 0\n",
            &far,
            &pe_of(0x14c),
        ] {
            assert_eq!(target(bytes), None, "{bytes:?}");
        }
    }
}
