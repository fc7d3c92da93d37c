//! A file that keeps an identity: `{"version":1,"seed":"<64 hexadecimal digits>"}`, which only its owner may read.
//!
//! Files without a version were made when there was the v12 wire alone. Their seed is that of the identity there, by the rule of
//! the existing nodes, and stays so: whoever knows its owner on that wire goes on knowing it. Since version 1 the identity there
//! belongs to the native one ([`Builder::v12`](crate::Builder::v12)).

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crypto::{Identity, Seed};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

/// What new files are.
const VERSION: u64 = 1;
/// Bytes of a file that are read: an identity is short, and what is longer is something else.
const MAX_BYTES: u64 = 4096;

/// An identity that lasts, and what is to be known of its file.
pub struct IdentityFile {
    seed: [u8; 32],
    version: u64,
    exposed: bool,
    created: bool,
}

impl IdentityFile {
    /// Reads a file; `None` if there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be read or holds no identity. It stays as it is.
    pub fn read(path: impl AsRef<Path>) -> Result<Option<Self>, IdentityFileError> {
        let path = path.as_ref();
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IdentityFileError::Unreadable { path: path.to_owned(), kind: error.kind() }),
        };
        let wrong = |what| IdentityFileError::Wrong { path: path.to_owned(), what };
        let unreadable = |error: io::Error| IdentityFileError::Unreadable { path: path.to_owned(), kind: error.kind() };
        let exposed = is_exposed(&file).map_err(unreadable)?;
        let mut text = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut text).map_err(unreadable)?;
        let (seed, version) = parse(&text).map_err(wrong)?;
        Ok(Some(Self { seed, version, exposed, created: false }))
    }

    /// Makes a file with a new identity, and the folder that it is in.
    ///
    /// # Errors
    ///
    /// When there is such a file already, which stays as it is, or none can be made.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, IdentityFileError> {
        let path = path.as_ref();
        let unwritable = |error: io::Error| match error.kind() {
            ErrorKind::AlreadyExists => IdentityFileError::Exists { path: path.to_owned() },
            kind => IdentityFileError::Unwritable { path: path.to_owned(), kind },
        };
        let entropy = Seed::from_os().or(Err(IdentityFileError::Entropy))?;
        let seed = entropy.fork("identity").rng().array();
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(unwritable)?;
        }
        let text = format!("{{\"version\":{VERSION},\"seed\":\"{}\"}}\n", HEXLOWER.encode(&seed));
        // It gets its name when it is whole: nobody ever reads half an identity, and a crash leaves none.
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", HEXLOWER.encode(&entropy.fork("name").rng().array::<8>())));
        let beside = PathBuf::from(beside);
        let linked = write_new(&beside, &text).and_then(|()| fs::hard_link(&beside, path));
        // What is left of it is of no use to anybody, whether it can be removed or not.
        let _ = fs::remove_file(&beside);
        match linked {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(unwritable(error)),
            // A file system without links, or one that is full, of which the same comes again.
            Err(_) => write_new(path, &text).map_err(unwritable)?,
            Ok(()) => {}
        }
        Ok(Self { seed, version: VERSION, exposed: false, created: true })
    }

    /// Reads a file, or makes it if there is none.
    ///
    /// # Errors
    ///
    /// As for [`Self::read`] and [`Self::create`].
    pub fn read_or_create(path: impl AsRef<Path>) -> Result<Self, IdentityFileError> {
        let path = path.as_ref();
        match Self::read(path)? {
            Some(read) => Ok(read),
            None => match Self::create(path) {
                // Another program was quicker.
                Err(IdentityFileError::Exists { path }) => Self::read(&path)?.ok_or(IdentityFileError::Exists { path }),
                made => made,
            },
        }
    }

    /// The identity.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::from_seed(self.seed)
    }

    /// What the identity on the v12 wire is made from by the rule of that wire, if that is older than the native one:
    /// for [`v12::Builder::seed`](crate::v12::Builder::seed).
    #[cfg(feature = "v12")]
    #[must_use]
    pub fn v12_seed(&self) -> Option<&[u8; 32]> {
        (self.version == 0).then_some(&self.seed)
    }

    /// Whether others on this machine can read the file (Unix).
    #[must_use]
    pub const fn is_exposed(&self) -> bool {
        self.exposed
    }

    /// Whether the file was made just now.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.created
    }
}

/// Without the secret.
impl fmt::Debug for IdentityFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed: _, version, exposed, created } = self;
        let mut shown = f.debug_struct("IdentityFile");
        shown.field("version", version).field("exposed", exposed).field("created", created).finish_non_exhaustive()
    }
}

/// Why there is no identity from a file. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityFileError {
    /// It cannot be read.
    #[error("cannot read the identity file {}: {kind}; check who may read it", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        kind: ErrorKind,
    },
    /// It is something else.
    #[error("{} is no identity file: {what}; name another file, or move this one away and a new one is made", .path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: WrongIdentity,
    },
    /// There is one already.
    #[error("{} exists; move it away, or name another file", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("cannot make the identity file {}: {kind}; its folder must be writable", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        kind: ErrorKind,
    },
    /// The operating system gave no entropy.
    #[error("the operating system gave no entropy")]
    Entropy,
}

/// What is wrong with a file that should hold an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongIdentity {
    /// It is no object with a seed.
    #[error("expected {{\"seed\": \"64 hexadecimal digits\"}}")]
    Format,
    /// A newer program made it.
    #[error("it is of version {version}, which a newer program made")]
    Version {
        /// The version that it names.
        version: u64,
    },
    /// The seed is none.
    #[error("the seed has 64 hexadecimal digits, not {characters} characters")]
    Seed {
        /// How many characters there are.
        characters: usize,
    },
}

/// Makes a file that only its owner may read, and leaves none that is not whole: never over one that came to be meanwhile, nor
/// through a link.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // That it cannot be removed either is no more news.
        let _ = fs::remove_file(path);
    }
    written
}

/// The seed, and the version.
fn parse(text: &[u8]) -> Result<([u8; 32], u64), WrongIdentity> {
    let object: serde_json::Value = serde_json::from_slice(text).or(Err(WrongIdentity::Format))?;
    let seed = object.get("seed").and_then(|seed| seed.as_str()).ok_or(WrongIdentity::Format)?;
    let version = match object.get("version") {
        Some(version) => version.as_u64().ok_or(WrongIdentity::Format)?,
        None => 0,
    };
    if version > VERSION {
        return Err(WrongIdentity::Version { version });
    }
    let bytes = HEXLOWER_PERMISSIVE.decode(seed.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    Ok((bytes.ok_or_else(|| WrongIdentity::Seed { characters: seed.chars().count() })?, version))
}

#[cfg(unix)]
fn is_exposed(file: &File) -> io::Result<bool> {
    let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata()?);
    Ok(mode & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_exposed(_file: &File) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_identity_is_told_apart() {
        let seed = "0aA".repeat(21) + "f";
        let of = |text: &str| parse(text.as_bytes()).map(|(_, version)| version);
        assert_eq!(of(&format!("{{\"seed\":\"{seed}\"}}")), Ok(0));
        assert_eq!(of(&format!("{{\"version\":1,\"seed\":\"{seed}\"}}\n")), Ok(1));
        let newer = WrongIdentity::Version { version: 2 };
        assert_eq!(of(&format!("{{\"version\":2,\"seed\":\"{seed}\"}}")), Err(newer));
        for text in ["", "{}", "[]", "{\"seed\":7}", "{\"version\":-1,\"seed\":\"\"}"] {
            assert_eq!(of(text), Err(WrongIdentity::Format), "{text}");
        }
        assert_eq!(of("{\"seed\":\"äbc\"}"), Err(WrongIdentity::Seed { characters: 3 }));
        let odd = "g".repeat(64);
        assert_eq!(of(&format!("{{\"seed\":\"{odd}\"}}")), Err(WrongIdentity::Seed { characters: 64 }));
    }

    #[test]
    fn a_file_is_made_once_and_read_as_it_was_made() {
        let folder = std::env::temp_dir().join(format!("setowire-identity-{}", std::process::id()));
        let path = folder.join("made/identity.json");
        assert!(IdentityFile::read(&path).unwrap().is_none());
        let made = IdentityFile::read_or_create(&path).unwrap();
        let read = IdentityFile::read_or_create(&path).unwrap();
        assert_eq!((made.is_new(), read.is_new(), read.is_exposed()), (true, false, false));
        assert!(!format!("{made:?}{read:?}").contains("seed"));
        assert_eq!(made.identity().peer_id(), read.identity().peer_id());
        let exists = IdentityFileError::Exists { path: path.clone() };
        assert_eq!(IdentityFile::create(&path).unwrap_err(), exists);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn programs_that_start_together_are_one_identity() {
        let folder = std::env::temp_dir().join(format!("setowire-together-{}", std::process::id()));
        for round in 0..50 {
            let path = folder.join(format!("{round}.json"));
            let ready = std::sync::Barrier::new(4);
            let all: Vec<IdentityFile> = std::thread::scope(|scope| {
                let start = || {
                    ready.wait();
                    IdentityFile::read_or_create(&path).unwrap()
                };
                let tasks: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                tasks.into_iter().map(|task| task.join().unwrap()).collect()
            });
            assert_eq!(all.iter().filter(|file| file.is_new()).count(), 1);
            assert!(all.iter().all(|file| file.identity().peer_id() == all[0].identity().peer_id()));
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
