//! Makes an object file fit the running kernel and this node: writes true offsets, constants and map sizes over the marks that
//! [`agent_abi::kernel`] describes, before the file is handed to the loader.

use crate::layout::LayoutError;
use agent_abi::kernel::{Constant, Field, marked_constant, marked_field, marked_offset};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind};

/// Why an object file could not be prepared.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImageError {
    /// Not a readable ELF object.
    #[error("kernel object is unreadable: {0}")]
    Elf(String),
    /// A field that the programs need is not on this kernel.
    #[error(transparent)]
    Field(#[from] LayoutError),
    /// An offset does not fit into an instruction.
    #[error("offset {offset} of {field:?} does not fit into an instruction")]
    TooFar {
        /// The field.
        field: Field,
        /// Its offset, bytes.
        offset: u32,
    },
    /// The programs use a constant that was not given.
    #[error("constant {0:?} was not given")]
    Constant(Constant),
    /// The object has no map of that name.
    #[error("kernel object has no map {0}")]
    Map(&'static str),
}

/// Size of a map, decided at load time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MapSize {
    /// Name of the map.
    pub(crate) map: &'static str,
    /// Bytes of a value, when it is not the compiled-in one.
    pub(crate) value_bytes: Option<u32>,
    /// Number of elements; of a ring buffer, bytes.
    pub(crate) entries: u32,
}

const LDX: u8 = 0x01;
const CLASS: u8 = 0x07;
const MOVE_IMMEDIATE: u8 = 0xb7;
const LOAD_WIDE: u8 = 0x18;
const INSTRUCTION: usize = 8;
/// Offsets in `struct bpf_map_def`, the content of an object's `maps` section.
const VALUE_SIZE: usize = 8;
const MAX_ENTRIES: usize = 12;

/// The object with every mark replaced.
pub(crate) fn prepare(
    object: &[u8],
    field: &dyn Fn(Field) -> Result<u32, LayoutError>,
    constants: &[(Constant, i32)],
    sizes: &[MapSize],
) -> Result<Vec<u8>, ImageError> {
    let unreadable = |error: object::Error| ImageError::Elf(error.to_string());
    let elf = object::File::parse(object).map_err(unreadable)?;
    let mut image = object.to_vec();
    for section in elf.sections().filter(|section| section.kind() == SectionKind::Text) {
        if let Some((start, bytes)) = section.file_range() {
            let code = slice(&mut image, start as usize, bytes as usize)?;
            fill(code, field, constants)?;
        }
    }
    for size in sizes {
        let at = map_definition(&elf, size.map).ok_or(ImageError::Map(size.map))?;
        if let Some(bytes) = size.value_bytes {
            slice(&mut image, at + VALUE_SIZE, 4)?.copy_from_slice(&bytes.to_le_bytes());
        }
        slice(&mut image, at + MAX_ENTRIES, 4)?.copy_from_slice(&size.entries.to_le_bytes());
    }
    Ok(image)
}

/// Replaces the marks in one section of code.
fn fill(
    code: &mut [u8],
    field: &dyn Fn(Field) -> Result<u32, LayoutError>,
    constants: &[(Constant, i32)],
) -> Result<(), ImageError> {
    let mut at = 0;
    while let Some(instruction) = code.get_mut(at..at + INSTRUCTION) {
        let opcode = instruction[0];
        at += if opcode == LOAD_WIDE { 2 * INSTRUCTION } else { INSTRUCTION };
        if opcode & CLASS == LDX {
            let marked = marked_field(i16::from_le_bytes([instruction[2], instruction[3]]));
            if let Some(wanted) = marked {
                let offset = field(wanted)?;
                let short =
                    i16::try_from(offset).map_err(|_| ImageError::TooFar { field: wanted, offset })?;
                instruction[2..4].copy_from_slice(&short.to_le_bytes());
            }
        } else if opcode == MOVE_IMMEDIATE {
            let immediate =
                i32::from_le_bytes([instruction[4], instruction[5], instruction[6], instruction[7]]);
            if let Some(wanted) = marked_offset(immediate) {
                instruction[4..8].copy_from_slice(&field(wanted)?.to_le_bytes());
            } else if let Some(wanted) = marked_constant(immediate) {
                let given = constants.iter().find(|(constant, _)| *constant == wanted);
                let (_, value) = given.ok_or(ImageError::Constant(wanted))?;
                instruction[4..8].copy_from_slice(&value.to_le_bytes());
            }
        }
    }
    Ok(())
}

/// Where in the file a map's definition lies.
fn map_definition(elf: &object::File<'_>, map: &str) -> Option<usize> {
    let section = elf.section_by_name("maps")?;
    let symbol = elf
        .symbols()
        .find(|symbol| symbol.section_index() == Some(section.index()) && symbol.name() == Ok(map))?;
    usize::try_from(section.file_range()?.0 + symbol.address()).ok()
}

fn slice(image: &mut [u8], start: usize, bytes: usize) -> Result<&mut [u8], ImageError> {
    let end = start.saturating_add(bytes);
    image.get_mut(start..end).ok_or_else(|| ImageError::Elf(format!("no bytes {start}..{end}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_abi::kernel::{constant_mark, field_immediate, field_mark};

    fn load(offset: i16) -> [u8; 8] {
        let [low, high] = offset.to_le_bytes();
        [0x79, 0x16, low, high, 0, 0, 0, 0]
    }

    fn move_immediate(value: i32) -> [u8; 8] {
        let [a, b, c, d] = value.to_le_bytes();
        [MOVE_IMMEDIATE, 1, 0, 0, a, b, c, d]
    }

    #[test]
    fn marks_are_replaced_and_nothing_else_is() {
        let wide = [LOAD_WIDE, 1, 0, 0, 1, 2, 3, 4];
        // The second half of a wide load may look like anything.
        let mut code: Vec<u8> = [
            load(field_mark(Field::TaskPid)),
            load(16),
            move_immediate(constant_mark(Constant::SlotMask)),
            move_immediate(7),
            wide,
            load(field_mark(Field::KnId)),
            move_immediate(field_immediate(Field::KnId)),
        ]
        .concat();
        fill(&mut code, &|field| Ok(100 + field as u32), &[(Constant::SlotMask, 2047)]).unwrap();
        let expected: Vec<u8> = [
            load(100),
            load(16),
            move_immediate(2047),
            move_immediate(7),
            wide,
            load(field_mark(Field::KnId)),
            move_immediate(100 + Field::KnId as i32),
        ]
        .concat();
        assert_eq!(code, expected);
    }

    #[test]
    fn a_missing_field_or_constant_is_named() {
        let missing = LayoutError::Missing { field: Field::RqClock, tried: "rq.clock".into() };
        let mut code = load(field_mark(Field::RqClock));
        let error = fill(&mut code, &|_| Err(missing.clone()), &[]).unwrap_err();
        assert_eq!(error.to_string(), "kernel has no RqClock (looked for rq.clock)");
        let mut code = move_immediate(constant_mark(Constant::SlotShift));
        let error = fill(&mut code, &|_| Ok(0), &[]).unwrap_err();
        assert_eq!(error.to_string(), "constant SlotShift was not given");
        let mut code = load(field_mark(Field::RqClock));
        let error = fill(&mut code, &|_| Ok(40_000), &[]).unwrap_err();
        assert_eq!(error.to_string(), "offset 40000 of RqClock does not fit into an instruction");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(matches!(prepare(b"not ELF", &|_| Ok(0), &[], &[]), Err(ImageError::Elf(_))));
    }
}
