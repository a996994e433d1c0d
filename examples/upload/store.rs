//! The files of the server, each under a name that the server made: the name that a client gives is only kept and shown.
//!
//! `ID.part` is a file that is not complete, `ID` one that is, and `ID.json` says what is known of either.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use threadbare::{CloseCode, Peer};

/// The length of the longest name that is kept, in characters.
const MAX_NAME: usize = 255;

/// How much is read at once of a file that is checked.
const READ_SIZE: usize = 64 << 10;

/// How long the connection that had an upload before has to let it go.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(5);

/// There is no file with this name, or none that is complete.
const NOT_FOUND: CloseCode = CloseCode(4404);

/// There is no room for the file.
const FULL: CloseCode = CloseCode(4507);

/// Why a connection is closed.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: CloseCode,
    pub(crate) why: String,
}

impl Refused {
    pub(crate) fn policy(why: &str) -> Refused {
        Refused { code: CloseCode::POLICY_VIOLATION, why: why.to_owned() }
    }

    fn not_found() -> Refused {
        Refused { code: NOT_FOUND, why: "there is no such file".to_owned() }
    }
}

impl From<io::Error> for Refused {
    /// What the disk says is for the operator. The client hears no more than that it failed.
    fn from(error: io::Error) -> Refused {
        log::error!("the disk: {error}");
        Refused { code: CloseCode::INTERNAL_ERROR, why: "the server cannot store or read the file".to_owned() }
    }
}

/// The name of a file on the server: 128 random bits in hexadecimal. Who knows it may read the file, and go on with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(String);

impl Id {
    fn random() -> io::Result<Id> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Id(hex(&bytes)))
    }

    /// Nothing else than what [`Id::random`] makes: no separator, no dot, and so no other directory.
    pub(crate) fn parse(text: &str) -> Option<Id> {
        let is_id = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_id.then(|| Id(text.to_owned()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A complete file.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) id: Id,
    name: String,
    pub(crate) size: u64,
    sha256: String,
}

impl Stored {
    /// The file as a message of this type.
    pub(crate) fn message(&self, kind: &str) -> String {
        let Stored { id, name, size, sha256 } = self;
        json!({ "type": kind, "id": id.to_string(), "name": name, "size": size, "sha256": sha256 }).to_string()
    }
}

/// A directory of files, and which connections are writing to them.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    max_size: u64,
    max_total: u64,
    /// The sizes that all files have or are to have, together.
    total: Mutex<u64>,
    writers: Mutex<HashMap<Id, Peer>>,
    released: Condvar,
}

/// What there is of an upload that a client wants to go on with.
#[derive(Debug)]
pub(crate) enum Resumed {
    Part(Upload),
    Whole(Stored),
}

impl Store {
    pub(crate) fn new(dir: PathBuf, max_size: u64, max_total: u64) -> io::Result<Arc<Store>> {
        fs::create_dir_all(&dir)?;
        let (total, writers, released) = (Mutex::new(0), Mutex::default(), Condvar::new());
        let store = Store { dir, max_size, max_total, total, writers, released };
        let mut total = 0_u64;
        for entry in fs::read_dir(&store.dir)? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(Id::parse);
            if let Some(id) = id
                && let Some((_, size)) = store.description(&id)?.as_ref().and_then(known)
            {
                total = total.saturating_add(size);
            }
        }
        *store.total() = total;
        Ok(Arc::new(store))
    }

    /// Begins an upload of so many bytes.
    pub(crate) fn begin(self: &Arc<Store>, name: &str, size: u64, peer: &Peer) -> Result<Upload, Refused> {
        if size > self.max_size {
            let why = format!("a file may have {} bytes", self.max_size);
            return Err(Refused { code: CloseCode::MESSAGE_TOO_BIG, why });
        }
        self.reserve(size)?;
        self.create(name, size, peer).inspect_err(|_| self.release(size))
    }

    fn create(self: &Arc<Store>, name: &str, size: u64, peer: &Peer) -> Result<Upload, Refused> {
        let id = Id::random()?;
        let name: String = name.chars().take(MAX_NAME).collect();
        let hold = self.hold(&id, peer)?;
        self.describe(&id, &json!({ "name": name, "size": size }))?;
        let file = OpenOptions::new().append(true).create_new(true).open(self.path(&id, ".part"))?;
        Ok(Upload { hold, file, name, size, offset: 0, hash: Sha256::new() })
    }

    /// Counts a file of this size, if there is room for it.
    fn reserve(&self, size: u64) -> Result<(), Refused> {
        let mut total = self.total();
        let left = self.max_total.saturating_sub(*total);
        if size > left {
            return Err(Refused { code: FULL, why: format!("the server has room for {left} bytes") });
        }
        *total += size;
        Ok(())
    }

    fn release(&self, size: u64) {
        let mut total = self.total();
        *total = total.saturating_sub(size);
    }

    fn total(&self) -> MutexGuard<'_, u64> {
        self.total.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with an upload. What is there is read for its checksum, which takes a while for a large file, and a
    /// connection that is still writing to it is ended.
    pub(crate) fn resume(self: &Arc<Store>, id: &Id, peer: &Peer) -> Result<Resumed, Refused> {
        let hold = self.hold(id, peer)?;
        if let Some(stored) = self.stored(id)? {
            return Ok(Resumed::Whole(stored));
        }
        let (name, size) = self.description(id)?.and_then(|value| known(&value)).ok_or_else(Refused::not_found)?;
        let path = self.path(id, ".part");
        let (mut hash, mut offset) = (Sha256::new(), 0);
        let mut buffer = vec![0; READ_SIZE];
        let mut before = File::open(&path)?;
        loop {
            let length = before.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            hash.update(&buffer[..length]);
            offset += length as u64;
        }
        let file = OpenOptions::new().append(true).open(&path)?;
        Ok(Resumed::Part(Upload { hold, file, name, size, offset, hash }))
    }

    /// Opens a complete file.
    pub(crate) fn open(&self, id: &Id) -> Result<(Stored, File), Refused> {
        let stored = self.stored(id)?.ok_or_else(Refused::not_found)?;
        Ok((stored, File::open(self.path(id, ""))?))
    }

    /// Lets only this connection write to a file, when the one before has let it go. That may be one whose client is gone,
    /// which the server would notice only by a ping.
    fn hold(self: &Arc<Store>, id: &Id, peer: &Peer) -> Result<Hold, Refused> {
        let mut writers = self.writers();
        if let Some(before) = writers.get(id) {
            before.abort();
            let waiting = self.released.wait_timeout_while(writers, TAKE_OVER_TIMEOUT, |held| held.contains_key(id));
            writers = waiting.unwrap_or_else(PoisonError::into_inner).0;
        }
        if writers.contains_key(id) {
            let why = "another connection has the file".to_owned();
            return Err(Refused { code: CloseCode::TRY_AGAIN_LATER, why });
        }
        writers.insert(id.clone(), peer.clone());
        Ok(Hold { store: Arc::clone(self), id: id.clone() })
    }

    fn writers(&self) -> MutexGuard<'_, HashMap<Id, Peer>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, id: &Id, extension: &str) -> PathBuf {
        self.dir.join(format!("{id}{extension}"))
    }

    /// What is known of a file, if it is there.
    fn description(&self, id: &Id) -> io::Result<Option<Value>> {
        match fs::read(self.path(id, ".json")) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes what is known of a file: all of it or, if the server ends meanwhile, what was there before.
    fn describe(&self, id: &Id, description: &Value) -> io::Result<()> {
        let path = self.path(id, ".json.new");
        let mut file = File::create(&path)?;
        file.write_all(description.to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(path, self.path(id, ".json"))
    }

    /// The file, if it is complete.
    fn stored(&self, id: &Id) -> io::Result<Option<Stored>> {
        if !self.path(id, "").try_exists()? {
            return Ok(None);
        }
        let stored = self.description(id)?.and_then(|value| {
            let (name, size) = known(&value)?;
            let sha256 = value.get("sha256")?.as_str()?.to_owned();
            Some(Stored { id: id.clone(), name, size, sha256 })
        });
        Ok(stored)
    }
}

/// The name and the size in a description.
fn known(description: &Value) -> Option<(String, u64)> {
    Some((description.get("name")?.as_str()?.to_owned(), description.get("size")?.as_u64()?))
}

/// The right to write to a file, which ends when this is dropped.
#[derive(Debug)]
struct Hold {
    store: Arc<Store>,
    id: Id,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.store.writers().remove(&self.id);
        self.store.released.notify_all();
    }
}

/// A file that is not complete. When this is dropped, the file stays, and can be gone on with.
#[derive(Debug)]
pub(crate) struct Upload {
    file: File, // closed before another connection may write to it
    name: String,
    size: u64,
    /// How much of it is there.
    offset: u64,
    hash: Sha256,
    hold: Hold,
}

impl Upload {
    pub(crate) fn id(&self) -> &Id {
        &self.hold.id
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.offset == self.size
    }

    /// Appends bytes to the file.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        if bytes.len() as u64 > self.size.saturating_sub(self.offset) {
            return Err(Refused::policy("there is more than the file was to have"));
        }
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Gives a complete file its name, when it is on the disk.
    pub(crate) fn finish(self) -> Result<Stored, Refused> {
        let Upload { file, name, size, hash, hold, .. } = self;
        file.sync_all()?;
        let (store, id) = (&hold.store, &hold.id);
        let sha256 = hex(&hash.finalize());
        store.describe(id, &json!({ "name": name, "size": size, "sha256": sha256 }))?;
        fs::rename(store.path(id, ".part"), store.path(id, ""))?;
        Ok(Stored { id: id.clone(), name, size, sha256 })
    }

    /// Removes the file.
    pub(crate) fn remove(self) -> Result<(), Refused> {
        let Upload { file, hold, size, .. } = self;
        drop(file); // some systems remove no file that is open
        fs::remove_file(hold.store.path(&hold.id, ".part"))?;
        fs::remove_file(hold.store.path(&hold.id, ".json"))?;
        hold.store.release(size);
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
