//! The identity: a file `{"version":1,"seed":"<64 hexadecimal digits>"}` which only its owner may read, as that of the chat
//! is, and the commands about it.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use swarm::PeerId;
use swarm::settings::Identity;

use crate::exit::Failure;
use crate::output::Output;

/// What new files are. Those without a version were made by early chats; the native identity of both is made alike.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Content {
    #[serde(default)]
    version: u32,
    seed: String,
}

/// `setowire id`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Option<Action>,

    /// The file; without it `identity.json` in the data folder: $SETOWIRE_DATA_DIR, or the one for data of this user
    #[arg(long, value_name = "FILE", global = true)]
    identity: Option<PathBuf>,

    /// Write an object, {"v":1,"id":..,"file":..}
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, clap::Subcommand)]
enum Action {
    /// Make a new identity, in a file that does not exist yet, and tell its id
    New,
    /// Tell the id of the one there is; what is done without a word too
    Show,
}

/// Makes an identity, or shows the one there is: the id on standard output, never what it is made from.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let out = Output { json: options.json };
    let path = path(options.identity.as_deref())?;
    let identity = match options.action.unwrap_or(Action::Show) {
        Action::New => create(&path)?,
        Action::Show => read(&path, out)?
            .with_context(|| format!("there is no identity in {}; make one by `setowire id new`", path.display()))?,
    };
    let id = PeerId::from(identity.peer_id());
    out.data(&id.to_string(), json!({"id": id.to_string(), "file": path.display().to_string()}));
    Ok(())
}

/// The identity in the file, which is made if there is none.
pub(crate) fn load_or_create(path: &Path, out: Output) -> anyhow::Result<Identity> {
    match read(path, out)? {
        Some(identity) => Ok(identity),
        None => {
            let identity = create(path)?;
            out.note(&format!("made the identity file {}", path.display()));
            Ok(identity)
        }
    }
}

/// The file that was named, or the one in the data folder.
pub(crate) fn path(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    match named {
        Some(path) => Ok(path.to_owned()),
        None => Ok(data_folder().context("no data folder is known; name a file by --identity")?.join("identity.json")),
    }
}

/// `$SETOWIRE_DATA_DIR`, or where programs of this system keep what they know (XDG Base Directory Specification).
fn data_folder() -> Option<PathBuf> {
    let var = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = var("SETOWIRE_DATA_DIR") {
        return Some(folder);
    }
    let base = if cfg!(windows) {
        var("APPDATA")
    } else {
        // A relative one is to be ignored.
        let xdg = var("XDG_DATA_HOME").filter(|folder| folder.is_absolute());
        xdg.or_else(|| Some(env::home_dir()?.join(".local/share")))
    };
    Some(base?.join("setowire"))
}

/// None if there is no such file.
fn read(path: &Path, out: Output) -> anyhow::Result<Option<Identity>> {
    let shown = path.display();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the identity file {shown}; check who may read it"));
        }
    };
    if is_exposed(&file)? {
        out.note(&format!("others on this machine can read {shown}: run `chmod 600 {shown}`"));
    }
    let seed = parse(file).with_context(|| format!("{shown} is no identity file; name another one by --identity"))?;
    Ok(Some(Identity::from_seed(seed)))
}

fn parse(file: File) -> anyhow::Result<[u8; 32]> {
    let mut text = String::new();
    // An identity is short; what is long is something else, and need not be read to the end.
    file.take(4096).read_to_string(&mut text)?;
    let content: Content = serde_json::from_str(&text).context("expected {\"seed\": \"64 hexadecimal digits\"}")?;
    ensure!(content.version <= VERSION, "it is of version {}, which a newer program made", content.version);
    from_hex(&content.seed)
        .with_context(|| format!("the seed has 64 hexadecimal digits, not {} characters", content.seed.chars().count()))
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

fn create(path: &Path) -> anyhow::Result<Identity> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow!("the operating system gave no entropy: {error}"))?;
    let shown = path.display();
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let mut options = OpenOptions::new();
    // Never over a file that is there, nor through a link.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{shown} exists; move it away, or name another file by --identity");
        }
        Err(error) => return Err(error).with_context(|| format!("cannot make the identity file {shown}")),
    };
    let hex = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    let content = serde_json::to_string(&Content { version: VERSION, seed: hex })?;
    let written = writeln!(file, "{content}").and_then(|()| file.sync_all());
    if written.is_err() {
        // Half an identity would be refused the next time; that it cannot be removed either is no more news.
        let _ = fs::remove_file(path);
    }
    written.with_context(|| format!("cannot write the identity file {shown}"))?;
    Ok(Identity::from_seed(seed))
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
