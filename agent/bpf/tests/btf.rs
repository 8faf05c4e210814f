//! BTF is read from the kernel, but a reader that panics on a bad byte takes the agent down: whatever is cut or flipped is an error.
#![allow(missing_docs, clippy::unwrap_used)]
use agent_bpf::btf::{BtfError, KernelBtf, Place};
use proptest::prelude::*;

/// Writes BTF as a kernel does.
#[derive(Default)]
struct Writer {
    types: Vec<u32>,
    strings: Vec<u8>,
}

impl Writer {
    fn text(&mut self, text: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(text.bytes());
        self.strings.push(0);
        at
    }

    fn push(&mut self, name: &str, kind: u32, count: u32, size_or_type: u32, rest: &[u32]) {
        let name = self.text(name);
        self.types.extend([name, kind << 24 | count, size_or_type]);
        self.types.extend(rest);
    }

    fn bytes(mut self) -> Vec<u8> {
        self.text("");
        let types = self.types.len() as u32 * 4;
        let header = [0x0001_eb9f, 24, 0, types, types, self.strings.len() as u32];
        let words = header.iter().chain(&self.types).flat_map(|word| word.to_ne_bytes());
        words.chain(self.strings).collect()
    }
}

/// `struct outer { u64 first; union { u32 a; struct inner b; }; u32 flag : 3; inner_t list[4]; }` and `enum kind { ONE = 1, SEVEN = 7 }`.
fn sample() -> Vec<u8> {
    let mut writer = Writer::default();
    writer.push("u64", 1, 0, 8, &[64]); // 1
    writer.push("u32", 1, 0, 4, &[32]); // 2
    let x = writer.text("x");
    writer.push("inner", 4, 1, 16, &[x, 1, 64]); // 3: x at byte 8
    let (a, b) = (writer.text("a"), writer.text("b"));
    writer.push("", 5, 2, 16, &[a, 2, 0, b, 3, 0]); // 4
    writer.push("inner_t", 8, 0, 3, &[]); // 5
    writer.push("", 3, 0, 0, &[5, 2, 4]); // 6: inner_t[4]
    let (first, flag, list) = (writer.text("first"), writer.text("flag"), writer.text("list"));
    let members = [first, 1, 0, 0, 4, 64, flag, 2, 3 << 24 | 192, list, 6, 256];
    writer.push("outer", 4, 1 << 31 | 4, 96, &members); // 7: with bit fields
    let (one, seven) = (writer.text("ONE"), writer.text("SEVEN"));
    writer.push("kind", 6, 2, 4, &[one, 1, seven, 7]); // 8
    writer.bytes()
}

#[test]
fn members_are_found_through_unions_typedefs_and_arrays() {
    let bytes = sample();
    let btf = KernelBtf::parse(&bytes).unwrap();
    assert_eq!(btf.member("outer", "first"), Ok(Place { offset: 0, size: 8 }));
    assert_eq!(btf.member("outer", "a"), Ok(Place { offset: 8, size: 4 }));
    assert_eq!(btf.member("outer", "b.x"), Ok(Place { offset: 16, size: 8 }));
    assert_eq!(btf.member("outer", "list"), Ok(Place { offset: 32, size: 64 }));
    assert_eq!(btf.element("outer", "list", 3), Ok(Place { offset: 80, size: 16 }));
    assert_eq!(btf.enumerator("kind", "SEVEN"), Ok(7));
}

#[test]
fn what_is_not_there_is_named() {
    let bytes = sample();
    let btf = KernelBtf::parse(&bytes).unwrap();
    let words = |result: Result<Place, BtfError>| result.unwrap_err().to_string();
    assert_eq!(words(btf.member("outer", "b.y")), "no member outer.b.y");
    assert_eq!(words(btf.member("outer", "flag")), "no member outer.flag", "a bit field has no byte offset");
    assert_eq!(words(btf.member("nothing", "x")), "no type nothing");
    assert_eq!(words(btf.element("outer", "list", 4)), "no member outer.list[4]");
    assert_eq!(words(btf.element("outer", "first", 0)), "no member outer.first[0]");
    assert_eq!(btf.enumerator("kind", "TWO").unwrap_err().to_string(), "no value TWO in enum kind");
    assert!(matches!(KernelBtf::parse(b"\x7fELF"), Err(BtfError::NotBtf)));
    assert!(matches!(KernelBtf::parse(b""), Err(BtfError::NotBtf)));
}

#[test]
fn a_typedef_of_itself_ends() {
    let mut writer = Writer::default();
    writer.push("loop", 8, 0, 1, &[]);
    let x = writer.text("x");
    writer.push("s", 4, 1, 8, &[x, 1, 0]);
    let bytes = writer.bytes();
    assert!(matches!(KernelBtf::parse(&bytes).unwrap().member("s", "x"), Err(BtfError::Malformed { .. })));
}

fn ask_everything(bytes: &[u8]) {
    if let Ok(btf) = KernelBtf::parse(bytes) {
        for path in ["first", "a", "b.x", "list", "flag", "b"] {
            let _ = btf.member("outer", path);
            let _ = btf.element("outer", path, 2);
        }
        let _ = btf.enumerator("kind", "SEVEN");
    }
}

proptest! {
    #[test]
    fn a_cut_file_never_panics(length in 0..400_usize) {
        let mut bytes = sample();
        prop_assume!(length < bytes.len());
        bytes.truncate(length);
        ask_everything(&bytes);
        prop_assert!(KernelBtf::parse(&bytes).and_then(|btf| btf.enumerator("kind", "SEVEN")).is_err());
    }

    #[test]
    fn changed_bytes_never_panic(changes in prop::collection::vec((0..400_usize, any::<u8>()), 1..6)) {
        let mut bytes = sample();
        for (at, value) in changes {
            let length = bytes.len();
            bytes[at % length] = value;
        }
        ask_everything(&bytes);
    }
}
