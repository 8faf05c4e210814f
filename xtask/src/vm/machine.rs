//! One guest: boots, runs its payload, ends. What the guest prints appears as it is printed.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::image;
use super::kernel::Bootable;
use super::qemu::Qemu;

/// A guest that has been silent for so long hangs; emulation of a loaded host is slow.
const SILENCE: Duration = Duration::from_secs(300);

/// What a guest is made of.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) qemu: &'a Qemu,
    pub(super) kernel: &'a Bootable,
    pub(super) root: &'a Path,
    /// A folder with `run.sh`.
    pub(super) payload: &'a Path,
    /// MiB.
    pub(super) memory: u32,
}

/// How a payload ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Everything that it printed.
    pub(super) output: String,
    /// Its exit status.
    pub(super) status: i32,
}

impl Machine<'_> {
    /// Boots the guest and waits for the end of its payload; `scratch` holds the files of this one run.
    pub(super) fn run(&self, scratch: &Path) -> Result<Ended> {
        fs::create_dir_all(scratch)?;
        let payload = scratch.join("payload.erofs");
        image::pack(self.payload, &payload)?;
        let (out, serial) = (scratch.join("suite.out"), scratch.join("serial.out"));
        fs::write(&out, "")?;
        let mut command = self.qemu.command();
        command
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"])
            .args([
                "-M",
                "q35,usb=off,vmport=off,smbus=off,sata=off",
                "-accel",
                "tcg,thread=multi,tb-size=256",
            ])
            .args(["-cpu", "max", "-smp", "2", "-m", &self.memory.to_string()])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&self.kernel.initramfs)
            .args(["-append", &command_line()]);
        for (id, disk) in [("root", self.root), ("payload", &payload)] {
            let drive = format!("file={},format=raw,if=none,id={id},readonly=on", disk.display());
            command.args(["-drive", &drive, "-device", &format!("virtio-blk-pci,drive={id}")]);
        }
        command
            .args(["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"])
            .args(["-serial", &format!("file:{}", serial.display())])
            .args(["-chardev", &format!("file,id=suite,path={}", out.display())])
            .args(["-device", "virtserialport,chardev=suite,name=trimtab.suite"])
            .stdin(Stdio::null());
        let guest = Guest(command.spawn().context("starting the emulator")?);
        let output = follow(guest, &out, &serial)?;
        let Some(status) = output.lines().rev().find_map(|line| line.strip_prefix("guest: exit ")) else {
            bail!("the guest ended without a status; its console says:\n{}", tail(&serial));
        };
        Ok(Ended { status: status.trim().parse().context("the guest's status")?, output })
    }
}

/// Ends the emulator with its owner.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Prints what the guest prints until the emulator ends.
fn follow(mut guest: Guest, out: &Path, serial: &Path) -> Result<String> {
    let mut file = fs::File::open(out)?;
    let mut seen: Vec<u8> = Vec::new();
    let mut told = 0;
    let mut last = Instant::now();
    loop {
        let ended = guest.0.try_wait()?.is_some();
        file.seek(SeekFrom::Start(seen.len() as u64))?;
        if file.read_to_end(&mut seen)? > 0 {
            last = Instant::now();
        }
        while let Some(end) = seen[told..].iter().position(|b| *b == b'\n') {
            println!("    | {}", String::from_utf8_lossy(&seen[told..told + end]).trim_end());
            told += end + 1;
        }
        if ended {
            return Ok(String::from_utf8_lossy(&seen).into_owned());
        }
        if last.elapsed() > SILENCE {
            bail!("the guest was silent for {} s; its console says:\n{}", SILENCE.as_secs(), tail(serial));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

fn command_line() -> String {
    let boot = "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off no_timer_check tsc=reliable audit=0";
    let random = "random.trust_cpu=1 cryptomgr.notests=1";
    let systemd = "systemd.show_status=0 systemd.unified_cgroup_hierarchy=1 systemd.machine_id=00000000000000000000000000000001";
    format!("{boot} {random} {systemd} psi=1")
}
