//! Compiles anew when the dashboards were built: the compiler does not see files that came into a folder.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../dashboards/web/dist");
}
