//! The Linux distribution and the names of its packages.
//!
//! ```
//! use gem_platform::probe::distribution::Distribution;
//!
//! let mint = Distribution { name: "Linux Mint".to_owned(), ids: vec!["linuxmint".to_owned(), "ubuntu".to_owned()] };
//! let package = mint.package("libvulkan.so.1").ok_or("unknown")?;
//! assert_eq!(package.instruction(), "sudo apt-get install libvulkan1");
//! # Ok::<(), &str>(())
//! ```

/// The Vulkan loader. The runtime for Linux needs it even for inference on the processor.
pub const VULKAN_LOADER: &str = "libvulkan.so.1";

/// The OpenGL library. The runtime for Linux needs it too.
pub const OPENGL: &str = "libGL.so.1";

/// A Linux distribution as `os-release(5)` describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// The name that people use.
    pub name: String,
    /// The distribution's own identifier, then those of its relatives, nearest first.
    pub ids: Vec<String>,
}

/// A package that contains a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// The package's name in the distribution.
    pub name: &'static str,
    /// How to install it, with `{}` for the name.
    instruction: &'static str,
}

impl Package {
    /// How to install the package: a command, or a text for a file.
    #[must_use]
    pub fn instruction(&self) -> String {
        self.instruction.replace("{}", self.name)
    }
}

/// A family of distributions: identifiers, installation command, packages of the Vulkan loader and OpenGL.
struct Family {
    ids: &'static [&'static str],
    instruction: &'static str,
    vulkan: &'static str,
    opengl: &'static str,
}

const FAMILIES: [Family; 8] = [
    Family {
        ids: &["debian", "ubuntu"],
        instruction: "sudo apt-get install {}",
        vulkan: "libvulkan1",
        opengl: "libgl1",
    },
    Family {
        ids: &["fedora", "rhel", "centos"],
        instruction: "sudo dnf install {}",
        vulkan: "vulkan-loader",
        opengl: "libglvnd-glx",
    },
    Family {
        ids: &["arch"],
        instruction: "sudo pacman -S {}",
        vulkan: "vulkan-icd-loader",
        opengl: "libglvnd",
    },
    Family {
        ids: &["suse", "opensuse", "opensuse-tumbleweed", "opensuse-leap", "sles"],
        instruction: "sudo zypper install {}",
        vulkan: "libvulkan1",
        opengl: "libglvnd",
    },
    Family {
        ids: &["alpine"],
        instruction: "sudo apk add {}",
        vulkan: "vulkan-loader",
        opengl: "mesa-gl",
    },
    Family {
        ids: &["gentoo"],
        instruction: "sudo emerge {}",
        vulkan: "media-libs/vulkan-loader",
        opengl: "media-libs/libglvnd",
    },
    Family {
        ids: &["void"],
        instruction: "sudo xbps-install {}",
        vulkan: "vulkan-loader",
        opengl: "libglvnd",
    },
    Family {
        ids: &["nixos"],
        instruction: "add `{}` to `programs.nix-ld.libraries` in `configuration.nix`",
        vulkan: "vulkan-loader",
        opengl: "libglvnd",
    },
];

impl Distribution {
    /// Parses an `os-release` file; `None` if it names no distribution.
    #[must_use]
    pub fn parse(os_release: &str) -> Option<Self> {
        let field = |key: &str| {
            let line = os_release
                .lines()
                .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
            line.map(unquoted).filter(|value| !value.is_empty())
        };
        let id = field("ID")?;
        let kin = field("ID_LIKE").unwrap_or_default();
        Some(Self {
            name: field("PRETTY_NAME")
                .or_else(|| field("NAME"))
                .unwrap_or_else(|| id.clone()),
            ids: std::iter::once(id.as_str())
                .chain(kin.split_ascii_whitespace())
                .map(str::to_owned)
                .collect(),
        })
    }

    /// The package that contains `library` ([`VULKAN_LOADER`] or [`OPENGL`]), if this distribution or a relative is
    /// known.
    #[must_use]
    pub fn package(&self, library: &str) -> Option<Package> {
        let family = self
            .ids
            .iter()
            .find_map(|id| FAMILIES.iter().find(|family| family.ids.contains(&id.as_str())))?;
        let name = match library {
            VULKAN_LOADER => family.vulkan,
            OPENGL => family.opengl,
            _ => return None,
        };
        Some(Package {
            name,
            instruction: family.instruction,
        })
    }
}

/// Removes quotes and the backslashes inside them from a shell-style value.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let inner = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    let Some(inner) = inner else {
        return value.to_owned();
    };
    let mut characters = inner.chars();
    let mut text = String::with_capacity(inner.len());
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_is_named_for_each_distribution_and_its_kin() {
        let apt = ("libvulkan1", "sudo apt-get install libvulkan1");
        let dnf = ("vulkan-loader", "sudo dnf install vulkan-loader");
        let pacman = ("vulkan-icd-loader", "sudo pacman -S vulkan-icd-loader");
        let zypper = ("libvulkan1", "sudo zypper install libvulkan1");
        let nix = "add `vulkan-loader` to `programs.nix-ld.libraries` in `configuration.nix`";
        let cases = [
            ("ID=debian\nVERSION_ID=\"12\"", apt),
            ("ID=ubuntu\nID_LIKE=debian", apt),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"", apt),
            ("ID=fedora", dnf),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"", dnf),
            ("ID=arch", pacman),
            ("ID=manjaro\nID_LIKE=arch", pacman),
            ("ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"", zypper),
            ("ID=alpine", ("vulkan-loader", "sudo apk add vulkan-loader")),
            ("ID=nixos", ("vulkan-loader", nix)),
        ];
        for (text, (name, instruction)) in cases {
            let package = Distribution::parse(text).unwrap().package(VULKAN_LOADER).unwrap();
            assert_eq!(
                (package.name, package.instruction().as_str()),
                (name, instruction),
                "{text}"
            );
        }
    }

    #[test]
    fn every_family_has_a_package_for_both_libraries() {
        for id in FAMILIES.iter().flat_map(|family| family.ids) {
            let distribution = Distribution::parse(&format!("ID={id}")).unwrap();
            assert!(distribution.package(VULKAN_LOADER).is_some() && distribution.package(OPENGL).is_some());
            assert_eq!(distribution.package("libother.so.1"), None);
        }
    }

    #[test]
    fn an_unknown_distribution_has_a_name_and_no_package() {
        let distribution = Distribution::parse("# made at home\nNAME='Bo\\'s Linux'\nID=bo").unwrap();
        assert_eq!(distribution.name, "Bo's Linux");
        assert_eq!(distribution.package(VULKAN_LOADER), None);
    }

    #[test]
    fn a_text_without_an_identifier_is_no_distribution() {
        assert_eq!(Distribution::parse("ID_LIKE=debian\nNAME=x"), None);
        assert_eq!(Distribution::parse("ID="), None);
    }
}
