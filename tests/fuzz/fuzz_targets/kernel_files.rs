//! `cargo xtask fuzz kernel_files`
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    e2e::fuzz::kernel_files(bytes);
});
