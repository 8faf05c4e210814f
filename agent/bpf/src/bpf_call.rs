//! The `bpf(2)` commands that are called directly, because aya has no form of them that fits: a cgroup iterator's link, a pass of it, pins of
//! plain file descriptors, run-time statistics. Layouts: `union bpf_attr` in include/uapi/linux/bpf.h.

use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_map_info, bpf_prog_info};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A kernel-filled information struct, valid when zeroed.
pub(crate) trait Info: Sized {}
impl Info for bpf_prog_info {}
impl Info for bpf_map_info {}

#[repr(C)]
struct CgroupIterTarget {
    order: u32,
    cgroup_fd: u32,
    cgroup_id: u64,
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    iter_info: u64,
    iter_info_len: u32,
    pad: u32,
}

#[repr(C)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}

#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    prog_fd: u32,
    pad: u32,
}

#[repr(C)]
struct Object {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

#[repr(C)]
struct EnableStats {
    kind: u32,
    pad: u32,
}

/// `enum bpf_cgroup_iter_order`: the cgroup and everything below it, parents before children.
const DESCENDANTS_PRE: u32 = 2;

/// Attaches an iterator program to the subtree at `cgroup`.
pub(crate) fn link_cgroup_iter(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let target = CgroupIterTarget { order: DESCENDANTS_PRE, cgroup_fd: raw(cgroup), cgroup_id: 0 };
    let request = LinkCreate {
        prog_fd: raw(program),
        target_fd: 0,
        attach_type: bpf_attach_type::BPF_TRACE_ITER as u32,
        flags: 0,
        iter_info: &raw const target as u64,
        iter_info_len: size_of::<CgroupIterTarget>() as u32,
        pad: 0,
    };
    call_for_fd(bpf_cmd::BPF_LINK_CREATE, &request)
}

/// Opens one pass of an iterator; reading it runs the program.
pub(crate) fn open_pass(link: BorrowedFd<'_>) -> io::Result<File> {
    call_for_fd(bpf_cmd::BPF_ITER_CREATE, &IterCreate { link_fd: raw(link), flags: 0 }).map(File::from)
}

/// Attaches a tracing program to the tracepoint it was loaded for, until the result is closed (and unpinned).
pub(crate) fn attach_tracepoint(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let request = RawTracepointOpen { name: 0, prog_fd: raw(program), pad: 0 };
    call_for_fd(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &request)
}

/// Makes an object outlive this process under a name on a bpf file system.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let request = Object { pathname: path.as_ptr() as u64, bpf_fd: raw(object), file_flags: 0 };
    call(bpf_cmd::BPF_OBJ_PIN, &request).map(drop)
}

/// Opens a pinned object.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    call_for_fd(bpf_cmd::BPF_OBJ_GET, &Object { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 })
}

/// What the kernel says of a program or map.
pub(crate) fn info<T: Info>(object: BorrowedFd<'_>) -> io::Result<T> {
    // SAFETY: `Info` types are plain integers.
    let mut info: T = unsafe { std::mem::zeroed() };
    let request =
        InfoByFd { bpf_fd: raw(object), info_len: size_of::<T>() as u32, info: &raw mut info as u64 };
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &request)?;
    Ok(info)
}

/// Lets the kernel measure the run time of all programs until the result is closed. Costs every run two clock reads.
pub(crate) fn enable_run_time() -> io::Result<OwnedFd> {
    call_for_fd(bpf_cmd::BPF_ENABLE_STATS, &EnableStats { kind: 0, pad: 0 })
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn call_for_fd<T>(command: bpf_cmd, request: &T) -> io::Result<OwnedFd> {
    let fd = call(command, request)?;
    // SAFETY: these commands answer with a new descriptor that is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<T>(command: bpf_cmd, request: &T) -> io::Result<i32> {
    // SAFETY: `request` lives through the call and its size is passed; pointers in it point to locals of the callers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw const *request, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
