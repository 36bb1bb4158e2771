//! The console of Windows. Code page and escape sequences are settings of the window, shared by all programs in it.

use windows_sys::Win32::Globalization::CP_UTF8;
use windows_sys::Win32::System::Console::{
    CONSOLE_MODE, ENABLE_VIRTUAL_TERMINAL_PROCESSING, GetConsoleMode, GetConsoleOutputCP, GetStdHandle,
    STD_ERROR_HANDLE, STD_HANDLE, STD_OUTPUT_HANDLE, SetConsoleMode, SetConsoleOutputCP,
};

#[derive(Debug)]
pub(super) struct Before {
    code_page: Option<u32>,
    modes: Vec<(STD_HANDLE, CONSOLE_MODE)>,
}

pub(super) fn prepare() -> Before {
    Before {
        code_page: use_utf8(),
        modes: [STD_OUTPUT_HANDLE, STD_ERROR_HANDLE]
            .into_iter()
            .filter_map(|stream| use_escape_sequences(stream).map(|mode| (stream, mode)))
            .collect(),
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        for &(stream, mode) in self.modes.iter().rev() {
            set_mode(stream, mode);
        }
        if let Some(code_page) = self.code_page {
            set_code_page(code_page);
        }
    }
}

/// There are no background jobs.
pub(super) const fn is_in_foreground() -> bool {
    true
}

/// The former code page, if it was changed to UTF-8.
fn use_utf8() -> Option<u32> {
    #[expect(
        unsafe_code,
        reason = "the console's settings are reached through the C interface only"
    )]
    // SAFETY: the call is without arguments and returns a number; 0 means that there is no console.
    let before = unsafe { GetConsoleOutputCP() };
    (before != 0 && before != CP_UTF8 && set_code_page(CP_UTF8)).then_some(before)
}

/// The former mode, if `stream` is a console whose mode was changed.
fn use_escape_sequences(stream: STD_HANDLE) -> Option<CONSOLE_MODE> {
    let before = mode(stream)?;
    let wanted = before | ENABLE_VIRTUAL_TERMINAL_PROCESSING;
    (before != wanted && set_mode(stream, wanted)).then_some(before)
}

fn set_code_page(code_page: u32) -> bool {
    #[expect(
        unsafe_code,
        reason = "the console's settings are reached through the C interface only"
    )]
    // SAFETY: the argument is a number, and the return value reports a failure.
    let done = unsafe { SetConsoleOutputCP(code_page) };
    done != 0
}

/// The mode of `stream`, if it is a console.
fn mode(stream: STD_HANDLE) -> Option<CONSOLE_MODE> {
    let mut mode = 0;
    #[expect(
        unsafe_code,
        reason = "the console's settings are reached through the C interface only"
    )]
    // SAFETY: if the handle is null, invalid or not a console's, GetConsoleMode returns 0; `mode` outlives the call.
    let done = unsafe { GetConsoleMode(GetStdHandle(stream), &raw mut mode) };
    (done != 0).then_some(mode)
}

fn set_mode(stream: STD_HANDLE, mode: CONSOLE_MODE) -> bool {
    #[expect(
        unsafe_code,
        reason = "the console's settings are reached through the C interface only"
    )]
    // SAFETY: if the handle is null, invalid or not a console's, SetConsoleMode returns 0; `mode` is passed by value.
    let done = unsafe { SetConsoleMode(GetStdHandle(stream), mode) };
    done != 0
}
