//! Instructions that the compiler must not touch: marked loads, marked constants, an atomic addition.

use agent_abi::kernel::{Field, field_immediate, field_mark};
use core::arch::asm;
use core::ffi::c_void;

/// Loads eight bytes of the kernel object at `object`.
///
/// # Safety
/// `object` must point to the kernel struct that has the field marked by `MARK`; the verifier refuses the program otherwise.
#[inline(always)]
pub(crate) unsafe fn load_u64<const MARK: i16>(object: *const c_void) -> u64 {
    let value;
    // SAFETY: a load through a pointer that the verifier knows the type of.
    unsafe {
        asm!("{v} = *(u64 *)({p} + {m})", v = out(reg) value, p = in(reg) object, m = const MARK,
            options(pure, readonly, nostack));
    }
    value
}

/// Loads four bytes, see [`load_u64`].
///
/// # Safety
/// As for [`load_u64`].
#[inline(always)]
pub(crate) unsafe fn load_u32<const MARK: i16>(object: *const c_void) -> u32 {
    let value: u64;
    // SAFETY: as above.
    unsafe {
        asm!("{v} = *(u32 *)({p} + {m})", v = out(reg) value, p = in(reg) object, m = const MARK,
            options(pure, readonly, nostack));
    }
    value as u32
}

/// Loads one byte, see [`load_u64`].
///
/// # Safety
/// As for [`load_u64`].
#[inline(always)]
pub(crate) unsafe fn load_u8<const MARK: i16>(object: *const c_void) -> u8 {
    let value: u64;
    // SAFETY: as above.
    unsafe {
        asm!("{v} = *(u8 *)({p} + {m})", v = out(reg) value, p = in(reg) object, m = const MARK,
            options(pure, readonly, nostack));
    }
    value as u8
}

/// The offset of a field as a number, for `bpf_probe_read_kernel`.
#[inline(always)]
pub(crate) fn offset_of<const IMMEDIATE: i32>() -> usize {
    let value: usize;
    // SAFETY: moves an immediate into a register.
    unsafe { asm!("{v} = {m}", v = out(reg) value, m = const IMMEDIATE, options(pure, nomem, nostack)) }
    value
}

/// A constant that the loader decides. `MARK` is [`agent_abi::kernel::constant_mark`] of it.
#[inline(always)]
pub fn constant<const MARK: i32>() -> u64 {
    let value;
    // SAFETY: moves an immediate into a register.
    unsafe { asm!("{v} = {m}", v = out(reg) value, m = const MARK, options(pure, nomem, nostack)) }
    value
}

/// Makes the compiler forget what it knows of a number's range, so that a check on it stays in the program for the verifier to see.
#[inline(always)]
pub fn hide_range(mut number: u64) -> u64 {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {n} */", n = inout(reg) number, options(pure, nomem, nostack)) }
    number
}

/// Adds to a counter that several CPUs write. The target's `core` has no atomic types.
///
/// # Safety
/// `counter` must point to eight aligned bytes of map memory.
#[inline(always)]
pub unsafe fn add_atomic(counter: *mut u64, amount: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("lock *(u64 *)({p} + 0) += {n}", p = in(reg) counter, n = in(reg) amount, options(nostack))
    }
}

/// [`field_mark`] where a const generic argument is wanted.
pub(crate) const fn at(field: Field) -> i16 {
    field_mark(field)
}

/// [`field_immediate`] where a const generic argument is wanted.
pub(crate) const fn number(field: Field) -> i32 {
    field_immediate(field)
}
