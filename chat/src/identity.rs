//! The file that keeps an identity from run to run: `{"seed":"<64 hexadecimal digits>"}`, readable by its owner only.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Stored {
    seed: String,
}

/// A file this long is no identity.
const MAX_FILE: u64 = 4096;

/// The seed in the file, which is made if it is not there. Says on `warn` what should not be so but works.
pub(crate) fn load_or_create(path: &Path, warn: impl Fn(String)) -> anyhow::Result<String> {
    match File::open(path) {
        Ok(file) => {
            if is_open_to_others(&file) {
                warn(format!("{} can be read by others: chmod 600 {0}", path.display()));
            }
            read(file).with_context(|| {
                format!("{} is no identity file: name another, or remove it to have one made", path.display())
            })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => create(path).with_context(|| {
            format!("cannot create the identity file {}: name a file in a directory that you may write", path.display())
        }),
        Err(error) => Err(error).with_context(|| {
            format!("cannot read the identity file {}: make it readable, or name another", path.display())
        }),
    }
}

fn read(file: File) -> anyhow::Result<String> {
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text)?;
    let Stored { seed } = serde_json::from_str(&text)?;
    if seed.is_empty() || seed.len() % 2 != 0 || !seed.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        bail!("its seed is not hexadecimal");
    }
    Ok(seed)
}

/// Never overwrites: two programs that start at once end with one identity, or one of them with an error.
fn create(path: &Path) -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    let mut seed = String::with_capacity(64);
    for byte in bytes {
        write!(seed, "{byte:02x}")?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let stored = serde_json::to_vec(&Stored { seed: seed.clone() })?;
    if let Err(error) = file.write_all(&stored).and_then(|()| file.sync_all()) {
        // Half a file would be refused in every later run.
        let _ = fs::remove_file(path);
        return Err(error.into());
    }
    Ok(seed)
}

#[cfg(unix)]
fn is_open_to_others(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    file.metadata().is_ok_and(|metadata| metadata.mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_file: &File) -> bool {
    false
}
