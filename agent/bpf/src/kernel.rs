//! Loads prepared objects and programs into the running kernel.

use crate::btf::KernelBtf;
use crate::feature::{Refusal, tried};
use crate::image::{MapSize, prepare};
use crate::layout::{Layout, LayoutError};
use agent_abi::kernel::{Constant, Field};
use aya::programs::{BtfTracePoint, Iter, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader, VerifierLogLevel};
use std::os::fd::{AsFd, OwnedFd};

const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// What must be known of the running kernel to load programs. Large; dropped after loading.
#[derive(Debug)]
pub(crate) struct Kernel {
    btf: Btf,
    pub(crate) layout: Layout,
}

/// An object whose maps exist in the kernel.
pub(crate) struct Loaded {
    object: Ebpf,
    name: &'static str,
}

impl Kernel {
    /// Reads the running kernel's types.
    pub(crate) fn read() -> Result<Self, Refusal> {
        let unusable = |reason: String| Refusal::Btf { path: BTF_PATH.into(), reason };
        let bytes = std::fs::read(BTF_PATH).map_err(|error| unusable(error.to_string()))?;
        let layout = Layout::of(&KernelBtf::parse(&bytes).map_err(|error| unusable(error.to_string()))?);
        drop(bytes);
        let btf = Btf::from_sys_fs().map_err(|error| unusable(error.to_string()))?;
        Ok(Self { btf, layout })
    }

    /// Prepares an object with every field it names, and creates its maps.
    pub(crate) fn load(
        &self,
        name: &'static str,
        object: &[u8],
        constants: &[(Constant, i32)],
        sizes: &[MapSize],
    ) -> Result<Loaded, Refusal> {
        self.load_with(name, object, &|field| self.layout.offset(field), constants, sizes)
    }

    /// As [`Kernel::load`], with another source of offsets.
    pub(crate) fn load_with(
        &self,
        name: &'static str,
        object: &[u8],
        field: &dyn Fn(Field) -> Result<u32, LayoutError>,
        constants: &[(Constant, i32)],
        sizes: &[MapSize],
    ) -> Result<Loaded, Refusal> {
        let image = prepare(object, field, constants, sizes)?;
        let mut loader = EbpfLoader::new();
        loader.btf(None).verifier_log_level(VerifierLogLevel::DISABLE);
        let object = loader.load(&image).map_err(|error| refused(name, &error))?;
        Ok(Loaded { object, name })
    }

    /// Has the verifier check a tracepoint program, and loads it.
    pub(crate) fn load_tracepoint(
        &self,
        loaded: &mut Loaded,
        program: &'static str,
        tracepoint: &str,
    ) -> Result<OwnedFd, Refusal> {
        let tracing: &mut BtfTracePoint = loaded.program(program)?;
        tracing.load(tracepoint, &self.btf).map_err(|error| refused(program, &error))?;
        let fd = tracing.fd().map_err(|error| refused(program, &error))?;
        fd.as_fd().try_clone_to_owned().map_err(tried(program))
    }

    /// Has the verifier check a cgroup iterator, and loads it.
    pub(crate) fn load_cgroup_iter(
        &self,
        loaded: &mut Loaded,
        program: &'static str,
    ) -> Result<OwnedFd, Refusal> {
        let iterator: &mut Iter = loaded.program(program)?;
        iterator.load("cgroup", &self.btf).map_err(|error| refused(program, &error))?;
        let fd = iterator.fd().map_err(|error| refused(program, &error))?;
        fd.as_fd().try_clone_to_owned().map_err(tried(program))
    }
}

impl Loaded {
    /// The descriptor of a map.
    pub(crate) fn map(&self, map: &'static str) -> Result<OwnedFd, Refusal> {
        let missing = || Refusal::Load { program: self.name, reason: format!("no map {map}") };
        let data = match self.object.map(map).ok_or_else(missing)? {
            aya::maps::Map::Array(data) | aya::maps::Map::RingBuf(data) => data,
            _ => return Err(missing()),
        };
        data.fd().as_fd().try_clone_to_owned().map_err(tried(map))
    }

    /// Takes a map out, to read it with aya's own types.
    pub(crate) fn take_map(&mut self, map: &'static str) -> Result<aya::maps::Map, Refusal> {
        self.object
            .take_map(map)
            .ok_or_else(|| Refusal::Load { program: self.name, reason: format!("no map {map}") })
    }

    fn program<'a, P>(&'a mut self, program: &'static str) -> Result<&'a mut P, Refusal>
    where
        &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
    {
        let found = self
            .object
            .program_mut(program)
            .ok_or_else(|| Refusal::Load { program, reason: "not in the object".into() })?;
        found.try_into().map_err(|error| refused(program, &error))
    }
}

/// The kernel's words, with every cause.
fn refused(program: &'static str, error: &dyn std::error::Error) -> Refusal {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    Refusal::Load { program, reason }
}
