//! A reader of BTF, the kernel's description of its own types: byte offsets of struct members and values of enumerators.
//!
//! Format: Documentation/bpf/btf.rst in the kernel's sources. Input is untrusted in form: every index is checked, recursion is bounded,
//! and what is malformed is an error, never a panic.

use std::collections::HashMap;

const MAGIC: u16 = 0xeb9f;
const MAX_DEPTH: u32 = 32;
const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const ENUM64: u32 = 19;

/// Why BTF could not be read, or does not have what was asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BtfError {
    /// The bytes do not begin with a BTF header of this machine's byte order.
    #[error("not BTF")]
    NotBtf,
    /// A length, index or kind points outside of what is there.
    #[error("malformed BTF at byte {at}")]
    Malformed {
        /// Byte offset in the file.
        at: usize,
    },
    /// No type of that name.
    #[error("no type {name}")]
    NoType {
        /// The name asked for.
        name: String,
    },
    /// The struct has no such member, or it is a bit field.
    #[error("no member {name}.{member}")]
    NoMember {
        /// The struct asked for.
        name: String,
        /// The path asked for.
        member: String,
    },
    /// The enum has no such value.
    #[error("no value {value} in enum {name}")]
    NoValue {
        /// The enum asked for.
        name: String,
        /// The enumerator asked for.
        value: String,
    },
}

/// Where a member lies and how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Offset in the struct, bytes.
    pub offset: u32,
    /// Size, bytes.
    pub size: u32,
}

/// Parsed BTF, borrowing the bytes it was read from.
#[derive(Debug)]
pub struct KernelBtf<'a> {
    bytes: &'a [u8],
    strings: usize,
    /// Byte offset of each type; index 0 is `void`.
    types: Vec<usize>,
    named: HashMap<&'a [u8], u32>,
}

struct Header {
    kind: u32,
    members: usize,
    bit_fields: bool,
    size_or_type: u32,
}

impl<'a> KernelBtf<'a> {
    /// Indexes the types in `bytes`, the content of `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// [`BtfError::NotBtf`], [`BtfError::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let magic = bytes.get(..2).ok_or(BtfError::NotBtf)?;
        if u16::from_ne_bytes([magic[0], magic[1]]) != MAGIC {
            return Err(BtfError::NotBtf);
        }
        let section = |at: usize| -> Result<usize, BtfError> {
            (word(bytes, 4)? as usize)
                .checked_add(word(bytes, at)? as usize)
                .ok_or(BtfError::Malformed { at })
        };
        let (start, strings) = (section(8)?, section(16)?);
        let end = start.checked_add(word(bytes, 12)? as usize).ok_or(BtfError::Malformed { at: 12 })?;
        let mut btf = Self { bytes, strings, types: vec![0], named: HashMap::new() };
        let mut at = start;
        while at < end {
            let header = btf.header_at(at)?;
            let name = btf.text(word(bytes, at)?)?;
            let id = u32::try_from(btf.types.len()).map_err(|_| BtfError::Malformed { at })?;
            if matches!(header.kind, STRUCT | ENUM | ENUM64) && !name.is_empty() {
                btf.named.entry(name).or_insert(id);
            }
            btf.types.push(at);
            at += 12 + trailer(header.kind, header.members).ok_or(BtfError::Malformed { at })?;
        }
        Ok(btf)
    }

    /// Place of a member: `("task_struct", "se.sum_exec_runtime")`. Members of anonymous structs and unions count as the outer's own.
    ///
    /// # Errors
    /// [`BtfError::NoType`], [`BtfError::NoMember`], [`BtfError::Malformed`].
    pub fn member(&self, name: &str, path: &str) -> Result<Place, BtfError> {
        let missing = || BtfError::NoMember { name: name.into(), member: path.into() };
        let mut id = self.id_of(name)?;
        let mut offset = 0_u32;
        for member in path.split('.') {
            let (at, type_id) = self.find(id, member.as_bytes(), 0)?.ok_or_else(missing)?;
            offset = offset.checked_add(at).ok_or_else(missing)?;
            id = type_id;
        }
        Ok(Place { offset, size: self.size_of(id, 0)? })
    }

    /// Place of one element of an array member.
    ///
    /// # Errors
    /// As [`KernelBtf::member`]; [`BtfError::NoMember`] too when it is no array or `index` is outside.
    pub fn element(&self, name: &str, path: &str, index: u32) -> Result<Place, BtfError> {
        let missing = || BtfError::NoMember { name: name.into(), member: format!("{path}[{index}]") };
        let mut id = self.id_of(name)?;
        let mut offset = 0_u32;
        for member in path.split('.') {
            let (at, type_id) = self.find(id, member.as_bytes(), 0)?.ok_or_else(missing)?;
            offset = offset.checked_add(at).ok_or_else(missing)?;
            id = type_id;
        }
        let at = self.at(id)?;
        if self.header_at(at)?.kind != ARRAY || index >= word(self.bytes, at + 20)? {
            return Err(missing());
        }
        let size = self.size_of(self.resolve(word(self.bytes, at + 12)?)?, 0)?;
        let offset = size.checked_mul(index).and_then(|skip| skip.checked_add(offset)).ok_or_else(missing)?;
        Ok(Place { offset, size })
    }

    /// Value of an enumerator of a named enum.
    ///
    /// # Errors
    /// [`BtfError::NoType`], [`BtfError::NoValue`], [`BtfError::Malformed`].
    pub fn enumerator(&self, name: &str, value: &str) -> Result<u32, BtfError> {
        let at = self.at(self.id_of(name)?)?;
        let header = self.header_at(at)?;
        let stride = if header.kind == ENUM64 { 12 } else { 8 };
        if matches!(header.kind, ENUM | ENUM64) {
            for index in 0..header.members {
                let entry = at + 12 + index * stride;
                if self.text(word(self.bytes, entry)?)? == value.as_bytes() {
                    return word(self.bytes, entry + 4);
                }
            }
        }
        Err(BtfError::NoValue { name: name.into(), value: value.into() })
    }

    fn id_of(&self, name: &str) -> Result<u32, BtfError> {
        self.named.get(name.as_bytes()).copied().ok_or_else(|| BtfError::NoType { name: name.into() })
    }

    fn at(&self, id: u32) -> Result<usize, BtfError> {
        self.types.get(id as usize).copied().ok_or(BtfError::Malformed { at: id as usize })
    }

    fn header_at(&self, at: usize) -> Result<Header, BtfError> {
        let info = word(self.bytes, at + 4)?;
        Ok(Header {
            kind: (info >> 24) & 0x1f,
            members: (info & 0xffff) as usize,
            bit_fields: info >> 31 == 1,
            size_or_type: word(self.bytes, at + 8)?,
        })
    }

    fn text(&self, offset: u32) -> Result<&'a [u8], BtfError> {
        let at = self.strings.saturating_add(offset as usize);
        let rest = self.bytes.get(at..).ok_or(BtfError::Malformed { at })?;
        let length = rest.iter().position(|byte| *byte == 0).ok_or(BtfError::Malformed { at })?;
        Ok(&rest[..length])
    }

    /// Follows typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Result<u32, BtfError> {
        for _ in 0..MAX_DEPTH {
            if id == 0 {
                return Ok(0);
            }
            let header = self.header_at(self.at(id)?)?;
            match header.kind {
                // typedef, volatile, const, restrict, type tag
                8..=11 | 18 => id = header.size_or_type,
                _ => return Ok(id),
            }
        }
        Err(BtfError::Malformed { at: self.at(id)? })
    }

    /// Byte offset and resolved type of a member, looking into anonymous members.
    fn find(&self, id: u32, member: &[u8], depth: u32) -> Result<Option<(u32, u32)>, BtfError> {
        let at = self.at(id)?;
        let header = if id == 0 { return Ok(None) } else { self.header_at(at)? };
        if !matches!(header.kind, STRUCT | UNION) || depth > MAX_DEPTH {
            return Ok(None);
        }
        for index in 0..header.members {
            let entry = at + 12 + index * 12;
            let name = self.text(word(self.bytes, entry)?)?;
            let place = word(self.bytes, entry + 8)?;
            let (bits, width) = if header.bit_fields { (place & 0xff_ffff, place >> 24) } else { (place, 0) };
            if name == member {
                let whole = width == 0 && bits % 8 == 0;
                return Ok(if whole {
                    Some((bits / 8, self.resolve(word(self.bytes, entry + 4)?)?))
                } else {
                    None
                });
            }
            if name.is_empty() {
                let inner = self.resolve(word(self.bytes, entry + 4)?)?;
                if let Some((offset, type_id)) = self.find(inner, member, depth + 1)? {
                    let offset = offset.checked_add(bits / 8).ok_or(BtfError::Malformed { at: entry })?;
                    return Ok(Some((offset, type_id)));
                }
            }
        }
        Ok(None)
    }

    fn size_of(&self, id: u32, depth: u32) -> Result<u32, BtfError> {
        let at = self.at(id)?;
        if id == 0 || depth > MAX_DEPTH {
            return Err(BtfError::Malformed { at });
        }
        let header = self.header_at(at)?;
        match header.kind {
            INT | STRUCT | UNION | ENUM | ENUM64 => Ok(header.size_or_type),
            PTR => Ok(8),
            ARRAY => {
                let element = self.size_of(self.resolve(word(self.bytes, at + 12)?)?, depth + 1)?;
                element.checked_mul(word(self.bytes, at + 20)?).ok_or(BtfError::Malformed { at })
            }
            _ => Err(BtfError::Malformed { at }),
        }
    }
}

/// Bytes that follow a type's header, by kind; `None` for a kind that no kernel writes.
fn trailer(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        INT | 14 | 17 => 4,
        ARRAY => 12,
        STRUCT | UNION | 15 | ENUM64 => members * 12,
        ENUM | 13 => members * 8,
        PTR | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let end = at.checked_add(4).ok_or(BtfError::Malformed { at })?;
    let bytes = bytes.get(at..end).ok_or(BtfError::Malformed { at })?;
    Ok(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}
