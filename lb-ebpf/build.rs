//! Tells bpf-linker how to generate code.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The maps are declared in BTF.
    println!("cargo:rustc-link-arg-bins=--btf");
}
