//! Reading a column where it lies: its numbers go into the table one by one, without lists in between.
//!
//! Problem: a batch of 50 tasks holds 16 lists, and growing a list costs more than all of its numbers. Method: a
//! protobuf message is walked [`field`] by field; packed lists are read in place ([`Numbers`]). What a sender
//! may do as well, but ours does not (a list in parts, or unpacked), is left to `prost` ([`Column::read`] says `None`),
//! which also says what is wrong with bytes that are no message.

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field<'a> {
    /// A varint.
    Number(u64),
    /// A length and so many bytes.
    Bytes(&'a [u8]),
}

/// The next field of a message: its number and content. `None` at anything that this does not know.
pub(super) fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let key = varint(rest)?;
    // Keys are 32 bits, and field 0 does not exist.
    if key > u64::from(u32::MAX) || key >> 3 == 0 {
        return None;
    }
    let content = match key & 7 {
        0 => Field::Number(varint(rest)?),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Field::Bytes(rest.split_off(..length)?)
        }
        _ => return None,
    };
    Some((key >> 3, content))
}

/// A varint of at most ten bytes that fits 64 bits.
#[inline(always)]
fn varint(rest: &mut &[u8]) -> Option<u64> {
    // Steps of slots take one byte, most others two to five.
    let (first, tail) = rest.split_first()?;
    if *first < 0x80 {
        *rest = tail;
        return Some(u64::from(*first));
    }
    match rest.first_chunk::<8>().and_then(|bytes| short_varint(u64::from_le_bytes(*bytes))) {
        Some((value, length)) => {
            *rest = &rest[length..];
            Some(value)
        }
        None => long_varint(rest),
    }
}

/// The varint that a word begins with, and its bytes; `None` when it takes more than these eight. The number's groups of 7
/// bits are moved together two, four and eight at a time.
#[inline(always)]
fn short_varint(word: u64) -> Option<(u64, usize)> {
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    let bits = ends.trailing_zeros() + 1;
    let word = word & (u64::MAX >> (64 - bits));
    let word = (word & 0x007f_007f_007f_007f) | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let word = (word & 0x0000_3fff_0000_3fff) | (word & 0x3fff_0000_3fff_0000) >> 2;
    let word = (word & 0x0fff_ffff) | (word & 0x0fff_ffff_0000_0000) >> 4;
    Some((word, bits as usize / 8))
}

#[cold]
fn long_varint(rest: &mut &[u8]) -> Option<u64> {
    let (first, tail) = rest.split_first()?;
    let mut value = u64::from(*first & 0x7f);
    for (index, byte) in tail.iter().take(9).enumerate() {
        let shift = 7 * (index as u32 + 1);
        if shift == 63 && *byte > 1 {
            return None;
        }
        value |= u64::from(*byte & 0x7f) << shift;
        if *byte < 0x80 {
            *rest = &tail[index + 1..];
            return Some(value);
        }
    }
    None
}

/// A packed list of varints.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbers<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Numbers<'a> {
    /// A list whose numbers are all good.
    fn read(bytes: &'a [u8], most: u64) -> Option<Self> {
        if bytes.iter().all(|byte| *byte < 0x80) {
            return Some(Self { bytes, left: bytes.len() });
        }
        let (mut rest, mut left) = (bytes, 0);
        while !rest.is_empty() {
            if varint(&mut rest)? > most {
                return None;
            }
            left += 1;
        }
        Some(Self { bytes, left })
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.left
    }
}

impl Iterator for Numbers<'_> {
    type Item = u64;
    #[inline(always)]
    fn next(&mut self) -> Option<u64> {
        self.left = self.left.saturating_sub(1);
        varint(&mut self.bytes)
    }
}

/// `pb::Column` where it lies.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Column<'a> {
    pub(super) metric: u32,
    pub(super) slots: Numbers<'a>,
    pub(super) rises: Numbers<'a>,
    pub(super) changes: Numbers<'a>,
    pub(super) absent: Numbers<'a>,
}

impl<'a> Column<'a> {
    /// Reads a column in the form that our encoder writes: each field once at most, lists packed and whole.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut column = Self::default();
        let mut seen = 0u8;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (number, content) = field(&mut rest)?;
            if number > 5 {
                // A later minor version may say more.
                continue;
            }
            if seen & (1 << number) != 0 {
                return None;
            }
            seen |= 1 << number;
            match (number, content) {
                (1, Field::Number(metric)) => column.metric = u32::try_from(metric).ok()?,
                (2, Field::Bytes(bytes)) => column.slots = Numbers::read(bytes, u32::MAX.into())?,
                (3, Field::Bytes(bytes)) => column.rises = Numbers::read(bytes, u64::MAX)?,
                (4, Field::Bytes(bytes)) => column.changes = Numbers::read(bytes, u64::MAX)?,
                (5, Field::Bytes(bytes)) => column.absent = Numbers::read(bytes, u32::MAX.into())?,
                _ => return None,
            }
        }
        Some(column)
    }
}

/// The signed number of a zigzag varint.
#[inline]
pub(super) fn signed(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::pb;

    fn same(read: &Column<'_>, whole: &pb::Column) -> bool {
        read.metric == whole.metric
            && read.slots.map(|n| n as u32).eq(whole.slots.iter().copied())
            && read.slots.len() == whole.slots.len()
            && read.rises.eq(whole.rises.iter().copied())
            && read.changes.map(signed).eq(whole.changes.iter().copied())
            && read.absent.map(|n| n as u32).eq(whole.absent.iter().copied())
    }

    /// Numbers of every length, as varints and as bits.
    fn number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0u32..64).prop_map(|(bits, shift)| bits >> shift)
    }

    proptest! {
        /// What the encoder writes is read in place, and reads as `prost` reads it.
        #[test]
        fn a_column_reads_as_it_was_written(
            metric: u32,
            slots in prop::collection::vec(number().prop_map(|n| n as u32), 0..20),
            rises in prop::collection::vec(number(), 0..20),
            changes in prop::collection::vec(number().prop_map(|n| n as i64), 0..20),
            absent in prop::collection::vec(any::<u32>(), 0..5),
        ) {
            let column = pb::Column { metric, slots, rises, changes, absent };
            let bytes = column.encode_to_vec();
            let read = Column::read(&bytes);
            prop_assert!(read.is_some_and(|read| same(&read, &column)), "{:?}", read);
        }

        /// Bytes that are read in place are bytes that `prost` reads, and as the same column.
        #[test]
        fn no_bytes_read_otherwise_than_prost_does(
            column in prop::collection::vec((1u32..8, prop::collection::vec(any::<u8>(), 0..14)), 0..6),
            noise in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let mut bytes = Vec::new();
            for (field, content) in column {
                if field == 1 {
                    bytes.extend([8, content.len() as u8]);
                } else {
                    bytes.extend([(field << 3 | 2) as u8, content.len() as u8]);
                    bytes.extend(content);
                }
            }
            bytes.extend(noise);
            if let Some(read) = Column::read(&bytes) {
                let whole = pb::Column::decode(&*bytes);
                prop_assert!(whole.as_ref().is_ok_and(|whole| same(&read, whole)), "{:?} {:?}", bytes, whole);
            }
        }
    }

    #[test]
    fn a_list_in_parts_and_a_number_that_is_too_long_are_left_to_prost() {
        assert!(Column::read(&[18, 1, 7]).is_some());
        assert!(Column::read(&[18, 1, 7, 18, 1, 7]).is_none(), "in parts");
        assert!(Column::read(&[16, 7]).is_none(), "not packed");
        assert!(Column::read(&[18, 1, 0x87]).is_none(), "unfinished");
        let long = [0xff; 9].into_iter().chain([2]).collect::<Vec<u8>>();
        assert_eq!(varint(&mut &long[..]), None, "65 bits");
        let most = [0xff; 9].into_iter().chain([1]).collect::<Vec<u8>>();
        assert_eq!(varint(&mut &most[..]), Some(u64::MAX));
    }
}
