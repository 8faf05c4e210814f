//! Would two builds of an object behave the same? Symbol names carry a hash of the checkout's path, so files differ where behaviour does not.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind};

const INSTRUCTION: usize = 8;

/// What a loader reads of an object: the bytes of its sections, and which symbol each reference is to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Behaviour {
    sections: BTreeMap<String, Vec<u8>>,
    references: BTreeMap<(String, u64), String>,
}

/// One line for each difference, empty when there is none.
///
/// # Errors
/// When one of the two is not an ELF object.
pub(super) fn differences(old: &[u8], new: &[u8]) -> Result<Vec<String>> {
    let old = behaviour(old).context("the committed object")?;
    let new = behaviour(new).context("the rebuilt object")?;
    let mut lines = Vec::new();
    let names =
        old.sections.keys().chain(new.sections.keys().filter(|name| !old.sections.contains_key(*name)));
    for name in names {
        match (old.sections.get(name), new.sections.get(name)) {
            (Some(old), Some(new)) if old != new => {
                lines.push(format!("section {name}: {}", first_difference(old, new)));
            }
            (Some(_), None) => lines.push(format!("section {name} is gone")),
            (None, Some(_)) => lines.push(format!("section {name} is new")),
            _ => {}
        }
    }
    for ((section, offset), target) in &old.references {
        let found = new.references.get(&(section.clone(), *offset));
        if found != Some(target) {
            lines.push(format!("section {section} at {offset:#x}: refers to {found:?}, not to {target}"));
        }
    }
    if new.references.len() > old.references.len() {
        lines.push(format!("{} references, not {}", new.references.len(), old.references.len()));
    }
    Ok(lines)
}

fn behaviour(bytes: &[u8]) -> Result<Behaviour> {
    let elf = object::File::parse(bytes)?;
    let mut behaviour = Behaviour::default();
    for section in elf.sections() {
        let name = section.name()?.to_owned();
        let loaded =
            matches!(section.kind(), SectionKind::Text | SectionKind::Data | SectionKind::ReadOnlyData)
                || name == "maps"
                || name == "license";
        if !loaded || name.starts_with(".debug") {
            continue;
        }
        behaviour.sections.insert(name.clone(), section.data()?.to_vec());
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(index) = relocation.target() else { continue };
            let target = elf.symbol_by_index(index)?;
            // A call goes to a section, with the place in the instruction; data goes to a name.
            let target = match target.section_index() {
                Some(section) if target.name()?.is_empty() => elf.section_by_index(section)?.name()?,
                _ => target.name()?,
            };
            behaviour.references.insert((name.clone(), offset), target.to_owned());
        }
    }
    Ok(behaviour)
}

fn first_difference(old: &[u8], new: &[u8]) -> String {
    if old.len() != new.len() {
        return format!("{} bytes, not {}", new.len(), old.len());
    }
    let pairs = old.chunks(INSTRUCTION).zip(new.chunks(INSTRUCTION)).enumerate();
    let mut differing = pairs.filter(|(_, (old, new))| old != new);
    match differing.next() {
        Some((index, (old, new))) => {
            format!("instruction {index} is {new:02x?}, not {old:02x?} ({} more differ)", differing.count())
        }
        None => "no difference".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_objects_equal_themselves_and_differ_from_each_other() {
        let objects = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent-ebpf/objects");
        let read = |name: &str| std::fs::read(objects.join(name)).unwrap();
        let (switch, executions) = (read("switch.o"), read("executions.o"));
        assert_eq!(differences(&switch, &switch).unwrap(), Vec::<String>::new());
        let lines = differences(&switch, &executions).unwrap().join("\n");
        assert!(lines.contains("tp_btf/sched_switch is gone"), "{lines}");
        assert!(lines.contains("tp_btf/sched_process_exec is new"), "{lines}");
    }

    #[test]
    fn a_changed_instruction_is_shown() {
        let line = first_difference(&[0; 24], &[[0; 8], [1; 8], [2; 8]].concat());
        assert!(line.starts_with("instruction 1 is [01, 01"), "{line}");
        assert!(line.ends_with("(1 more differ)"), "{line}");
    }
}
