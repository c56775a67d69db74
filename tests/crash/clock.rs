//! A library for `LD_PRELOAD`, on Linux, that moves the clock of a process by `CLOCK_OFFSET` seconds. `tests/outages.rs` compiles
//! it. The functions have no switch for it, so that nobody can turn their clock.

use std::ffi::{c_char, c_int, c_long};

#[repr(C)]
pub struct TimeSpec {
    seconds: i64,
    nanoseconds: c_long,
}

const CLOCK_REALTIME: c_int = 0;

#[cfg(target_arch = "x86_64")]
const SYS_CLOCK_GETTIME: c_long = 228;
#[cfg(target_arch = "aarch64")]
const SYS_CLOCK_GETTIME: c_long = 113;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn getenv(name: *const c_char) -> *const c_char;
    fn atol(text: *const c_char) -> c_long;
}

/// Stands in front of that of the C library, which `SystemTime::now` calls. Unsafe as every function of C; `time` is valid by its
/// contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut TimeSpec) -> c_int {
    let result = unsafe { syscall(SYS_CLOCK_GETTIME, clock, time) };
    let offset = unsafe { getenv(c"CLOCK_OFFSET".as_ptr()) };
    if clock == CLOCK_REALTIME && !offset.is_null() {
        unsafe { (*time).seconds += atol(offset) };
    }
    if result == 0 { 0 } else { -1 }
}
