//! Does a cgroup id still name a cgroup?

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `FILEID_KERNFS` in include/linux/exportfs.h: the handle is the node's 64-bit id.
const FILEID_KERNFS: i32 = 0xfe;

#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    id: u64,
}

/// True when the kernel says that no cgroup of this id exists on the hierarchy mounted at `root`; false when it exists, and also when
/// the question is not allowed (it needs `CAP_DAC_READ_SEARCH`).
pub(crate) fn is_gone(root: &File, cgroup_id: u64) -> bool {
    let handle = Handle { bytes: 8, kind: FILEID_KERNFS, id: cgroup_id };
    // SAFETY: the handle has the layout of `struct file_handle` with eight bytes of content.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            root.as_raw_fd(),
            &raw const handle,
            libc::O_PATH | libc::O_CLOEXEC,
        )
    };
    if fd >= 0 {
        // SAFETY: the descriptor was just opened and is used nowhere else.
        unsafe { libc::close(fd as i32) };
        return false;
    }
    io::Error::last_os_error().raw_os_error() == Some(libc::ESTALE)
}
