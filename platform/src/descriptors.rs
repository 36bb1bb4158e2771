//! The limit of open files and connections of this process.
//!
//! ```
//! let limit = gem_platform::descriptors::allow(1024);
//! assert!(limit > 0);
//! ```

/// Raises the limit to `wanted` where the system allows that, and returns the limit.
#[cfg(unix)]
#[must_use]
pub fn allow(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let wanted = wanted as u64;
    let limit = getrlimit(Resource::Nofile);
    let (Some(current), maximum) = (limit.current, limit.maximum.unwrap_or(u64::MAX)) else {
        return usize::MAX;
    };
    let raised = Rlimit {
        current: Some(wanted.min(maximum)),
        maximum: limit.maximum,
    };
    let is_raised = wanted > current && setrlimit(Resource::Nofile, raised).is_ok();
    usize::try_from(if is_raised { wanted.min(maximum) } else { current }).unwrap_or(usize::MAX)
}

/// Unlimited on Windows.
#[cfg(windows)]
#[must_use]
pub fn allow(_wanted: usize) -> usize {
    usize::MAX
}

/// Whether `error` means that the process or the system is out of descriptors.
#[must_use]
pub fn are_exhausted(error: &std::io::Error) -> bool {
    #[cfg(unix)]
    const EXHAUSTED: [i32; 2] = [libc::EMFILE, libc::ENFILE];
    // ERROR_TOO_MANY_OPEN_FILES and WSAEMFILE.
    #[cfg(windows)]
    const EXHAUSTED: [i32; 2] = [4, 10_024];
    error.raw_os_error().is_some_and(|code| EXHAUSTED.contains(&code))
}

#[cfg(all(test, unix))]
mod tests {
    #[test]
    fn the_limit_is_never_lowered() {
        let now = super::allow(0);
        assert!(now > 0);
        assert!(super::allow(now) >= now);
    }
}
