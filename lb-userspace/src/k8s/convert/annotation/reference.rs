//! The reference of annotations, written from their table.

use std::fmt::Write;
use std::path::Path;

use super::{PREFIX, TABLE};

const HEAD: &str = "# Reference: annotations and labels

Written from the table in `lb-userspace/src/k8s/convert/annotation.rs`: `BLESS=1 cargo test -p lb-userspace the_reference_is`.

MetalLB's kinds carry MetalLB's fields and nothing else; what Torline adds stands in annotations of the object that it concerns. A
value that is wrong, or an annotation that nobody knows, is a finding and changes nothing.

";

const TAIL: &str = "
## Labels

| label | on | meaning |
|---|---|---|
| `torline.io/switch` | BGPPeer, IPAddressPool | the virtual switch that it belongs to, by name in any case |
| `app.kubernetes.io/managed-by: torline` | BGPPeer, BGPAdvertisement, VirtualSwitch | made by torline, which may change it or take it away |
";

fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut kinds: Vec<_> = TABLE.iter().map(|annotation| annotation.kind).collect();
    kinds.sort();
    kinds.dedup();
    for kind in kinds {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "## {kind}\n\n| annotation | value | meaning |\n|---|---|---|\n"
        );
        for annotation in TABLE.iter().filter(|annotation| annotation.kind == kind) {
            let later = match annotation.effective {
                true => "",
                false => " Has no effect in this version.",
            };
            let _ = writeln!(
                text,
                "| `{PREFIX}{}` | {} | {}{later} |",
                annotation.name, annotation.value, annotation.description
            );
        }
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n" + TAIL
}

#[test]
fn the_reference_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, reference()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/reference.md differs: run `BLESS=1 cargo test -p lb-userspace the_reference_is`"
    );
}
