//! The identity file: `{"version":1,"seed":"<64 hexadecimal digits>"}`, which only its owner may read.
//!
//! Files without a version were made when there was the v12 wire alone. Their seed is that of the identity there, by the
//! rule of the existing nodes, and stays so: whoever knows this person on that wire goes on knowing it. Since version 1
//! the identity there belongs to the native one, as [`Builder::v12`](swarm::Builder::v12) derives it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

/// What new files are.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Content {
    #[serde(default)]
    version: u32,
    seed: String,
}

/// An identity that lasts.
#[derive(Debug)]
pub(crate) struct Identity {
    /// What the native identity is made from.
    pub(crate) seed: [u8; 32],
    /// Whether the identity on the v12 wire is made from the same seed by the rule of that wire.
    pub(crate) old: bool,
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
pub(crate) fn load_or_create(
    path: &Path,
    fresh: impl FnOnce() -> anyhow::Result<[u8; 32]>,
) -> anyhow::Result<Identity> {
    let shown = path.display();
    match File::open(path) {
        Ok(file) => read(file).with_context(|| {
            format!("{shown} is no identity file; name another file, or move this one away and a new one is made")
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let identity = Identity { seed: fresh()?, old: false, exposed: false, created: true };
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
    let Content { version, seed } =
        serde_json::from_str(&text).context("expected {\"seed\": \"64 hexadecimal digits\"}")?;
    ensure!(version <= VERSION, "it is of version {version}, which a newer setowire-chat made");
    let Some(seed) = from_hex(&seed) else {
        bail!("the seed has 64 hexadecimal digits, not {} characters", seed.chars().count());
    };
    Ok(Identity { seed, old: version == 0, exposed, created: false })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    if text.len() != 2 * seed.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in seed.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(seed)
}

/// Hexadecimal digits, two for each byte.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn create(path: &Path, seed: &[u8]) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    // Never over a file that came to be meanwhile, nor through a link.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let content = serde_json::to_string(&Content { version: VERSION, seed: to_hex(seed) })?;
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
