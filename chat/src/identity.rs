//! The identity file: `{"seed":"<64 hexadecimal digits>"}`, which only its owner may read.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Content {
    seed: String,
}

/// An identity that lasts.
#[derive(Debug)]
pub(crate) struct Identity {
    /// 64 hexadecimal digits.
    pub(crate) seed: String,
    /// Others than the owner may read the file.
    pub(crate) exposed: bool,
    /// The file is new.
    pub(crate) created: bool,
}

/// Reads the file, or makes it with this seed.
///
/// # Errors
///
/// When it cannot be read or made, or does not hold an identity; the text says what to do.
pub(crate) fn load_or_create(path: &Path, fresh: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<Identity> {
    let shown = path.display();
    match File::open(path) {
        Ok(file) => read(file).with_context(|| {
            format!("{shown} is no identity file; name another file, or move this one away and a new one is made")
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let identity = Identity { seed: fresh()?, exposed: false, created: true };
            create(path, &identity.seed).with_context(|| {
                format!("cannot make the identity file {shown}; its folder must exist and be writable")
            })?;
            Ok(identity)
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot read the identity file {shown}; check who may read it"))
        }
    }
}

fn read(file: File) -> anyhow::Result<Identity> {
    let exposed = is_exposed(&file)?;
    let mut text = String::new();
    // An identity is short; what is long is something else, and need not be read to the end.
    file.take(4096).read_to_string(&mut text)?;
    let Content { seed } = serde_json::from_str(&text).context("expected {\"seed\": \"64 hexadecimal digits\"}")?;
    if seed.len() != 64 || !seed.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!("the seed has 64 hexadecimal digits, not {} characters", seed.chars().count());
    }
    Ok(Identity { seed, exposed, created: false })
}

fn create(path: &Path, seed: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    // Never over a file that came to be meanwhile, nor through a link.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let content = serde_json::to_string(&Content { seed: seed.to_owned() })?;
    let written = writeln!(file, "{content}").and_then(|()| file.sync_all());
    if written.is_err() {
        // Half an identity would be refused the next time; that it cannot be removed either is no more news.
        let _ = std::fs::remove_file(path);
    }
    Ok(written?)
}

#[cfg(unix)]
fn is_exposed(file: &File) -> anyhow::Result<bool> {
    let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata()?);
    Ok(mode & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_exposed(_file: &File) -> anyhow::Result<bool> {
    Ok(false)
}
