//! One guest: how it boots, what it prints, how it ends.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::kernel::Bootable;
use super::qemu::Qemu;

/// A suite that has been silent for so long hangs; emulation of a loaded host is slow.
const SILENCE: Duration = Duration::from_secs(300);

/// Size of a slow disk, bytes: holes, until they are written.
const SLOW_DISK_BYTES: u64 = 64 << 20;
/// What a slow disk moves, bytes per second: so little that the host's own disk is never what limits it.
const SLOW_DISK_BPS: u32 = 8 << 20;

/// What a guest is made of.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) qemu: &'a Qemu,
    pub(super) kernel: &'a Bootable,
    pub(super) root: &'a Path,
    /// A disk with `run.sh`.
    pub(super) payload: &'a Path,
    /// MiB.
    pub(super) memory: u32,
    /// A third disk, empty, that moves [`SLOW_DISK_BPS`].
    pub(super) slow_disk: bool,
    /// Its place in a network; `None` when it is alone.
    pub(super) place: Option<Place>,
    /// Before each of its lines, with its name in a network.
    pub(super) label: String,
}

/// A guest's place in a network of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its host name.
    pub(super) name: &'static str,
    /// From 1; the last part of its address 10.77.0.N.
    pub(super) number: usize,
}

impl Place {
    /// Its network device on the host's side.
    pub(super) fn tap(self) -> String {
        format!("tap{}", self.number)
    }
}

/// How a payload ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Everything that it printed.
    pub(super) output: String,
    /// Its exit status.
    pub(super) status: i32,
}

/// A guest that runs; it ends with its owner.
#[derive(Debug)]
pub(super) struct Guest {
    emulator: Child,
    /// Before each of its lines.
    label: String,
    out: fs::File,
    serial: PathBuf,
    seen: Vec<u8>,
    told: usize,
    last: Instant,
}

/// The emulator hangs before the guest's kernel says its first word, now and then on a host that is busy.
#[derive(Debug)]
pub(super) struct NeverBooted;

impl std::fmt::Display for NeverBooted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the guest said nothing at all for {} s, nor did its console", SILENCE.as_secs())
    }
}

impl std::error::Error for NeverBooted {}

/// The socket on which the emulator itself takes orders, in the folder of a guest.
pub(super) const EMULATOR: &str = "emulator.sock";
/// The socket at whose other end is the guest's port `trimtab.host`, likewise.
pub(super) const HOST: &str = "host.sock";

impl Machine<'_> {
    /// Boots the guest; `scratch` holds the files of this one run.
    pub(super) fn boot(&self, scratch: &Path) -> Result<Guest> {
        fs::create_dir_all(scratch)?;
        let (out, serial) = (scratch.join("suite.out"), scratch.join("serial.out"));
        fs::write(&out, "")?;
        let mut command = with_its_parent(&self.qemu.command());
        let processors = if self.place.is_some() { "1" } else { "2" };
        command
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"])
            .args([
                "-M",
                "q35,usb=off,vmport=off,smbus=off,sata=off",
                "-accel",
                "tcg,thread=multi,tb-size=256",
            ])
            .args(["-cpu", "max", "-smp", processors, "-m", &self.memory.to_string()])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&self.kernel.initramfs)
            .args(["-append", &command_line(self.place)]);
        for (id, disk) in [("root", self.root), ("payload", self.payload)] {
            let drive = format!("file={},format=raw,if=none,id={id},readonly=on", disk.display());
            command.args(["-drive", &drive, "-device", &format!("virtio-blk-pci,drive={id}")]);
        }
        if self.slow_disk {
            let path = scratch.join("slow.img");
            fs::File::create(&path)?.set_len(SLOW_DISK_BYTES)?;
            let limit = format!("throttling.bps-total={SLOW_DISK_BPS}");
            let drive = format!("file={},format=raw,if=none,id=slow,cache=unsafe,{limit}", path.display());
            command.args(["-drive", &drive, "-device", "virtio-blk-pci,drive=slow"]);
        }
        command
            .args(["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"])
            .args(["-serial", &format!("file:{}", serial.display())])
            .args(["-chardev", &format!("file,id=suite,path={}", out.display())])
            .args(["-device", "virtserialport,chardev=suite,name=trimtab.suite"]);
        if let Some(place) = self.place {
            connect(&mut command, place, scratch);
        }
        let emulator = command.stdin(Stdio::null()).spawn().context("starting the emulator")?;
        Ok(Guest {
            emulator,
            label: format!("{}{}", self.label, self.place.map_or("", |place| place.name)),
            out: fs::File::open(out)?,
            serial,
            seen: Vec::new(),
            told: 0,
            last: Instant::now(),
        })
    }
}

/// A network device, and two sockets: for orders to the emulator, and for words with the guest.
fn connect(command: &mut Command, place: Place, scratch: &Path) {
    let socket = |id: &str, file: &str| {
        format!("socket,id={id},path={},server=on,wait=off", scratch.join(file).display())
    };
    command
        .args(["-netdev", &format!("tap,id=net,ifname={},script=no,downscript=no", place.tap())])
        .args([
            "-device",
            &format!("virtio-net-pci,netdev=net,id=nic,mac=52:54:00:00:00:{:02x},romfile=", place.number),
        ])
        .args(["-chardev", &socket("emulator", EMULATOR), "-mon", "chardev=emulator,mode=control"])
        .args(["-chardev", &socket("host", HOST)])
        .args(["-device", "virtserialport,chardev=host,name=trimtab.host"]);
}

/// The same command, killed by the kernel when the thread that starts it is gone, however that ended.
fn with_its_parent(command: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            bound.env(name, value);
        }
    }
    bound
}

impl Guest {
    /// Prints what the guest printed since the last call; true when the emulator has ended.
    pub(super) fn follow(&mut self) -> Result<bool> {
        let ended = self.emulator.try_wait()?.is_some();
        self.out.seek(SeekFrom::Start(self.seen.len() as u64))?;
        if self.out.read_to_end(&mut self.seen)? > 0 {
            self.last = Instant::now();
        }
        while let Some(end) = self.seen[self.told..].iter().position(|b| *b == b'\n') {
            let line = &self.seen[self.told..self.told + end];
            println!("    {}| {}", self.label, String::from_utf8_lossy(line).trim_end());
            self.told += end + 1;
        }
        Ok(ended)
    }

    /// Its suite still says something from time to time.
    ///
    /// # Errors
    /// When it was silent for [`SILENCE`]: [`NeverBooted`] when it always was, its console included.
    pub(super) fn is_alive(&self) -> Result<()> {
        if self.last.elapsed() > SILENCE {
            if self.seen.is_empty() && tail(&self.serial).is_empty() {
                return Err(NeverBooted.into());
            }
            bail!(
                "the guest was silent for {} s; its console says:\n{}",
                SILENCE.as_secs(),
                tail(&self.serial)
            );
        }
        Ok(())
    }

    /// What came of its suite.
    pub(super) fn ended(&self) -> Result<Ended> {
        let output = String::from_utf8_lossy(&self.seen).into_owned();
        let Some(status) = output.lines().rev().find_map(|line| line.strip_prefix("guest: exit ")) else {
            bail!(
                "the guest {} ended without a status; its console says:\n{}",
                self.label,
                tail(&self.serial)
            );
        };
        Ok(Ended { status: status.trim().parse().context("the guest's status")?, output })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ended = self.emulator.kill();
        let _reaped = self.emulator.wait();
    }
}

fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

fn command_line(place: Option<Place>) -> String {
    let boot = "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off no_timer_check tsc=reliable audit=0";
    let random = "random.trust_cpu=1 cryptomgr.notests=1";
    let number = place.map_or(1, |place| place.number);
    let systemd = format!(
        "systemd.show_status=0 systemd.unified_cgroup_hierarchy=1 systemd.machine_id={number:032x} psi=1"
    );
    let network = place.map(|place| format!(" vm.ip=10.77.0.{}/24 vm.host={}", place.number, place.name));
    format!("{boot} {random} {systemd}{}", network.unwrap_or_default())
}
