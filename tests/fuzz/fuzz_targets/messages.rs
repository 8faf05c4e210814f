//! `cargo xtask fuzz messages`
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    e2e::fuzz::messages(bytes);
});
