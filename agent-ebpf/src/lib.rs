//! What every kernel program needs: fields of kernel objects, and nothing else.
//!
//! A field is loaded by one instruction whose offset the loader fills in (see [`agent_abi::kernel`]). The instruction is written in
//! assembly, so that the compiler can neither fold nor move the mark that stands for the offset.
#![no_std]
#![feature(asm_experimental_arch)]

mod field;
mod object;

pub use field::{add_atomic, constant, hide_range};
pub use object::{Cgroup, Css, CssSet, Stalls, Task};

/// What the verifier never lets happen.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The helpers used here are for GPL-compatible programs only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
pub static LICENSE: [u8; 4] = *b"GPL\0";
