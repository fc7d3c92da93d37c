//! Every committed input, run again: what a target once found must stay fixed, and what it learnt must still run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

use fuzz::{TARGETS, Target};

/// The files of a folder, in the order of their names; none if it is not there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    files
}

fn replay(name: &str) {
    let (_, target): &(_, Target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = files(&root.join("corpus").join(name));
    assert!(!corpus.is_empty(), "no corpus of {name}");
    for path in corpus.into_iter().chain(files(&root.join("regressions").join(name))) {
        let input = fs::read(&path).expect("a readable file");
        // The file is named by what goes wrong in it.
        let outcome = std::panic::catch_unwind(|| target(&input));
        assert!(outcome.is_ok(), "{name} fails on {}", path.display());
    }
}

macro_rules! replays {
    ($($name:ident),*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_is_replayed() {
            let replayed: &[&str] = &[$(stringify!($name)),*];
            let known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(replayed, known);
        }
    };
}

replays!(
    frame,
    handshake,
    record,
    recovery,
    mux,
    session,
    nat,
    relay,
    node,
    stream,
    text,
    rendezvous,
    dht_message,
    dht_table,
    dht_store,
    dht_node,
    v12_frame,
    v12_reassembly,
    v12_reorder,
    v12_chunks,
    v12_peer,
    v12_node,
    v12_dht
);

/// Folders that belong to no target are of one that was renamed: nobody would run them.
#[test]
fn no_folder_is_left_over() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in files(&root.join("corpus")).into_iter().chain(files(&root.join("regressions"))) {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(!folder.is_dir() || TARGETS.iter().any(|(known, _)| *known == name), "{name} is of no target");
    }
}
