//! The corpora of the fuzz targets, replayed.
#![expect(
    clippy::expect_used,
    unreachable_pub,
    reason = "a test ends where something is wrong"
)]

use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
mod targets;

#[test]
fn every_corpus_is_replayed() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, run) in targets::TARGETS {
        let corpus = fs::read_dir(corpora.join(name));
        let mut inputs = 0;
        for entry in corpus.unwrap_or_else(|error| panic!("{name}: {error}")) {
            let path = entry.expect("an entry").path();
            let input = fs::read(&path).expect("an input");
            // What fails is named by the last line.
            println!("{}", path.display());
            run(&input);
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no corpus");
    }
}

/// What cargo-fuzz does for hours is done here for a moment: inputs made from those of the corpus.
#[test]
fn what_the_corpora_become_by_small_changes_does_no_harm() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut seed = 1_u64;
    let mut draw = |limit: usize| {
        // Knuth's MMIX constants: any stream will do.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap_or(0) % limit.max(1)
    };
    for (name, run) in targets::TARGETS {
        for entry in fs::read_dir(corpora.join(name)).expect("a corpus") {
            let input = fs::read(entry.expect("an entry").path()).expect("an input");
            for _ in 0..200 {
                let mut changed = input.clone();
                for _ in 0..=draw(4) {
                    let at = draw(changed.len());
                    match draw(4) {
                        0 => changed.truncate(at),
                        1 => changed
                            .insert(at.min(changed.len()), u8::try_from(draw(256)).unwrap_or(0)),
                        2 if at < changed.len() => drop(changed.remove(at)),
                        _ => {
                            if let Some(octet) = changed.get_mut(at) {
                                *octet ^= 1 << draw(8);
                            }
                        }
                    }
                }
                run(&changed);
            }
        }
    }
}
