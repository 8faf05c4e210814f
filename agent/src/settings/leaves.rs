//! `leaves`: units whose children may be moved into cgroups of their own.

use std::path::{Component, Path};

/// Where systemd puts services that say nothing else.
const SERVICES: &str = "system.slice";

/// The path of a listed unit below the top of the unified hierarchy: of a service by its name, of everything else as it is written.
///
/// # Errors
/// What is wrong with it.
pub(super) fn path(listed: &str, own: &str) -> Result<String, String> {
    let path = match listed.contains('/') || !listed.ends_with(".service") {
        true => listed.trim_matches('/').to_owned(),
        false => format!("{SERVICES}/{listed}"),
    };
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    if path.is_empty() || listed.contains(['\0', '\n']) || !Path::new(&path).components().all(plain) {
        return Err(format!("{listed:?} is no service and no path: write for example nodemanager.service"));
    }
    if path == own || path.starts_with(&format!("{own}/")) {
        return Err(format!("{listed:?} is Trimtab's own: its tasks have cgroups of their own"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn a_service_is_found_by_its_name_and_anything_else_by_its_path() {
        let path = |listed| path(listed, "trimtab.slice");
        assert_eq!(path("nm.service").unwrap(), "system.slice/nm.service");
        assert_eq!(path("hadoop.slice/nm@1.service").unwrap(), "hadoop.slice/nm@1.service");
        assert_eq!(path("/hadoop-lab/nm1/").unwrap(), "hadoop-lab/nm1");
        for bad in ["", "/", "../x", "a/../b", "a\n", "trimtab.slice", "trimtab.slice/web"] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
    }
}
