//! Takes bytes in any order, writes them on one thread and hashes them in order on another.
//!
//! Bytes that directly follow the hashed ones are hashed from memory. The others, and those that arrive while the hasher is busy, are read
//! back from the page cache later. So receiving, writing and hashing overlap, received bytes are on disk at once, and memory is limited to
//! a few buffers.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::error::Error;
use super::limits::Limits;
use super::partial::{Identity, Partial};
use super::ranges::RangeSet;
use super::retry::Fault;
use crate::sha256::{self, Sha256};

/// Chunks in flight between two threads; a chunk has at most some 400 KB, the HTTP client's largest read.
const QUEUE: usize = 2;
/// Pieces that wait for the hasher.
const HASH_QUEUE: usize = 3;
const READ_BACK: usize = 256 * 1024;
/// The bytes that may be written out of order before the journal is updated; a crash can lose this many.
const RECORD_EVERY: u64 = 256 * 1024;

enum Op {
    /// Start over with another version of the file.
    Restart(Identity),
    Write {
        at: u64,
        data: Bytes,
    },
    /// All bytes are written: finish the hash and flush to disk.
    Seal,
}

/// The receiving end of a download.
pub(super) struct Store {
    ops: mpsc::Sender<Op>,
    writer: JoinHandle<Result<Option<Sha256>, Error>>,
    on_disk: Arc<AtomicU64>,
}

/// The writer has stopped; [`Store::close`] says why.
#[derive(Debug)]
pub(super) struct Closed;

impl From<Closed> for Fault {
    fn from(_: Closed) -> Self {
        Self::Fatal(Error::Stopped)
    }
}

impl Store {
    /// Continues `partial`, or starts over if it is empty. `size` is the catalog's; 0 = unknown.
    pub(super) fn open(partial: &Partial, size: u64, identity: Identity, present: RangeSet) -> Result<Self, Error> {
        let (file, reader) = partial.open_data(present.end() > 0)?;
        let journal = Journal::new(present);
        if !journal.lists_ranges && journal.present.end() > 0 {
            // Truncate leftovers of an earlier run, so that the file's length alone describes it.
            file.set_len(journal.present.end())
                .map_err(|e| Error::file("shorten", partial.data(), e, None))?;
            partial.record(&identity, None)?;
        }
        let (ops, queue) = mpsc::channel(QUEUE);
        let on_disk = Arc::new(AtomicU64::new(journal.present.len()));
        let mut writer = Writer {
            limits: Limits::new(partial.data(), size),
            partial: partial.clone(),
            identity,
            file,
            position: 0,
            journal,
            hasher: Hasher::spawn(reader),
            hashed: 0,
            on_disk: Arc::clone(&on_disk),
        };
        Ok(Self {
            ops,
            writer: tokio::task::spawn_blocking(move || writer.run(queue)),
            on_disk,
        })
    }

    /// The number of bytes on disk.
    pub(super) fn on_disk(&self) -> u64 {
        self.on_disk.load(Ordering::Relaxed)
    }

    /// Discards all bytes and starts over with the version `identity`.
    pub(super) async fn restart(&self, identity: Identity) -> Result<(), Closed> {
        self.ops.send(Op::Restart(identity)).await.map_err(|_| Closed)
    }

    /// Writes `data` at byte `at`; waits while the disk or the hasher is behind.
    pub(super) async fn write(&self, at: u64, data: Bytes) -> Result<(), Closed> {
        self.ops.send(Op::Write { at, data }).await.map_err(|_| Closed)
    }

    /// The same for a thread that may block.
    pub(super) fn blocking_writer(&self) -> impl FnMut(u64, Bytes) -> Result<(), Closed> + Send + 'static {
        let ops = self.ops.clone();
        move |at, data| ops.blocking_send(Op::Write { at, data }).map_err(|_| Closed)
    }

    /// The hash of the whole file, once it is flushed to disk.
    pub(super) async fn seal(self) -> Result<Sha256, Error> {
        let sent = self.ops.send(Op::Seal).await;
        match (joined(self.writer.await)?, sent) {
            (Some(digest), Ok(())) => Ok(digest),
            _ => Err(Error::Stopped),
        }
    }

    /// Stops, with the journal up to date.
    pub(super) async fn close(self) -> Result<(), Error> {
        drop(self.ops);
        joined(self.writer.await).map(|_| ())
    }
}

fn joined<T>(result: Result<Result<T, Error>, tokio::task::JoinError>) -> Result<T, Error> {
    result.unwrap_or_else(|_| Err(Error::Stopped))
}

/// The ranges on disk, and those on record in the journal.
struct Journal {
    present: RangeSet,
    /// Bytes written since the last update of the journal; counted only once bytes came out of order.
    unrecorded: u64,
    /// Whether the journal lists ranges; else the file's length describes them.
    lists_ranges: bool,
}

impl Journal {
    fn new(present: RangeSet) -> Self {
        Self {
            lists_ranges: present.run_end(0) < present.end(),
            present,
            unrecorded: 0,
        }
    }
}

struct Writer {
    limits: Limits,
    identity: Identity,
    file: File,
    /// The position of the file's cursor.
    position: u64,
    journal: Journal,
    hasher: Hasher,
    /// The end of the contiguous bytes that were passed to the hasher.
    hashed: u64,
    on_disk: Arc<AtomicU64>,
    /// Dropped last, after the files are closed, because dropping it may delete them.
    partial: Partial,
}

impl Writer {
    fn run(&mut self, mut queue: mpsc::Receiver<Op>) -> Result<Option<Sha256>, Error> {
        self.hash_run(None)?;
        while let Some(op) = queue.blocking_recv() {
            match op {
                Op::Restart(identity) => self.restart(identity)?,
                Op::Write { at, data } => self.write(at, data)?,
                Op::Seal => return self.seal().map(Some),
            }
        }
        if self.journal.lists_ranges {
            self.record()?;
        }
        Ok(None)
    }

    fn restart(&mut self, identity: Identity) -> Result<(), Error> {
        // Overwriting existing bytes needs no additional room.
        let more = identity.length.unwrap_or(0).saturating_sub(self.journal.present.len());
        self.limits
            .check(self.partial.data(), identity.length.unwrap_or(0), more, identity.length)?;
        self.partial.forget()?;
        let (file, reader) = self.partial.open_data(false)?;
        self.file = file;
        self.position = 0;
        self.identity = identity;
        self.journal = Journal::new(RangeSet::default());
        self.hasher = Hasher::spawn(reader);
        self.hashed = 0;
        self.on_disk.store(0, Ordering::Relaxed);
        self.partial.record(&self.identity, None)
    }

    fn write(&mut self, at: u64, data: Bytes) -> Result<(), Error> {
        let written = at..at + data.len() as u64;
        if !self.journal.lists_ranges && at != self.journal.present.end() {
            // From now on the file's length does not describe its content: record the ranges first.
            self.journal.lists_ranges = true;
            self.record()?;
        }
        self.put(at, &data)?;
        self.position = written.end;
        self.journal.present.insert(written.clone());
        self.on_disk.store(self.journal.present.len(), Ordering::Relaxed);
        if self.journal.lists_ranges {
            self.journal.unrecorded += data.len() as u64;
            if self.journal.unrecorded >= RECORD_EVERY {
                self.record()?;
            }
        }
        self.hash_run((written.start == self.hashed).then_some(data))
    }

    fn put(&mut self, at: u64, data: &[u8]) -> Result<(), Error> {
        let missing = self
            .identity
            .length
            .map(|length| length.saturating_sub(self.journal.present.len()));
        let length = data.len() as u64;
        self.limits.check(self.partial.data(), at + length, length, missing)?;
        let sought = if at == self.position {
            Ok(())
        } else {
            self.file.seek(SeekFrom::Start(at)).map(|_| ())
        };
        sought
            .and_then(|()| self.file.write_all(data))
            .map_err(|e| Error::file("write", self.partial.data(), e, missing))
    }

    fn record(&mut self) -> Result<(), Error> {
        self.journal.unrecorded = 0;
        self.partial
            .record(&self.identity, Some(self.journal.present.as_slice()))
    }

    /// Passes contiguous bytes to the hasher: `fresh` ones from memory, the rest by their position in the file. If the hasher is behind,
    /// the writer does not wait: the hasher reads the bytes from the file later.
    fn hash_run(&mut self, fresh: Option<Bytes>) -> Result<(), Error> {
        if let Some(data) = fresh {
            let length = data.len() as u64;
            if !self.offer(Piece::Memory(data))? {
                return Ok(());
            }
            self.hashed += length;
        }
        let run_end = self.journal.present.run_end(self.hashed);
        if run_end > self.hashed && self.offer(Piece::File(self.hashed..run_end))? {
            self.hashed = run_end;
        }
        Ok(())
    }

    /// Returns whether the hasher took the piece.
    fn offer(&self, piece: Piece) -> Result<bool, Error> {
        match self.hasher.pieces.try_send(piece) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Disconnected(_)) => Err(self.unreadable()),
        }
    }

    fn seal(&mut self) -> Result<Sha256, Error> {
        let rest = self.hashed..self.journal.present.run_end(self.hashed);
        self.hasher
            .pieces
            .send(Piece::File(rest))
            .map_err(|_| self.unreadable())?;
        let (pieces, _) = sync_channel(0);
        drop(std::mem::replace(&mut self.hasher.pieces, pieces));
        self.file
            .sync_all()
            .map_err(|e| Error::file("flush", self.partial.data(), e, None))?;
        self.hasher.digest.recv().map_err(|_| self.unreadable())
    }

    fn unreadable(&self) -> Error {
        let source = io::Error::other("the bytes that were written cannot be read back");
        Error::file("read", self.partial.data(), source, None)
    }
}

enum Piece {
    Memory(Bytes),
    File(Range<u64>),
}

/// The hashing thread: takes pieces, and returns one digest when the queue is closed.
struct Hasher {
    pieces: SyncSender<Piece>,
    digest: Receiver<Sha256>,
}

impl Hasher {
    fn spawn(mut reader: File) -> Self {
        let (pieces, queue) = sync_channel::<Piece>(HASH_QUEUE);
        let (answer, digest) = sync_channel(1);
        tokio::task::spawn_blocking(move || {
            let mut hash = sha256::Hasher::default();
            let mut buffer = Vec::new();
            for piece in queue {
                match piece {
                    Piece::Memory(data) => hash.update(&data),
                    // The writer notices a failure by the closed queue.
                    Piece::File(range) => match read_back(&mut reader, range, &mut hash, &mut buffer) {
                        Ok(()) => {}
                        Err(_) => return,
                    },
                }
            }
            drop(reader);
            // The receiver is gone if the download was given up.
            let _ = answer.send(hash.finish());
        });
        Self { pieces, digest }
    }
}

fn read_back(reader: &mut File, range: Range<u64>, hash: &mut sha256::Hasher, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.resize(READ_BACK, 0);
    reader.seek(SeekFrom::Start(range.start))?;
    let mut left = range.end - range.start;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(READ_BACK).min(READ_BACK);
        let Some(part) = buffer.get_mut(..wanted) else { break };
        reader.read_exact(part)?;
        hash.update(part);
        left -= wanted as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn store_in(directory: &std::path::Path) -> (Partial, Store) {
        let partial = Partial::open(directory, &Sha256::of([1; 32])).await.unwrap();
        let (identity, present) = partial.contents();
        let store = Store::open(&partial, 0, identity, present).unwrap();
        (partial, store)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn chunks_in_any_order_over_any_interruption_hash_as_the_whole(
            lengths in prop::collection::vec(1..5000usize, 1..20),
            order in prop::collection::vec(any::<u32>(), 20),
            interrupted in 0..20usize,
        ) {
            let total: usize = lengths.iter().sum();
            let data: Bytes = (0..total).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>().into();
            let mut chunks: Vec<(usize, usize)> = lengths
                .iter()
                .scan(0, |at, len| { let start = *at; *at += len; Some((start, *at)) })
                .collect();
            chunks.sort_by_key(|(start, _)| order[start % order.len()]);
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                let directory = tempfile::tempdir().unwrap();
                let (partial, mut store) = store_in(directory.path()).await;
                let identity = Identity { validator: None, length: Some(total as u64) };
                store.restart(identity).await.unwrap();
                for (index, (start, end)) in chunks.into_iter().enumerate() {
                    if index == interrupted {
                        store.close().await.unwrap();
                        let (identity, present) = partial.contents();
                        store = Store::open(&partial, 0, identity, present).unwrap();
                    }
                    store.write(start as u64, data.slice(start..end)).await.unwrap();
                }
                assert_eq!(store.seal().await.unwrap(), Sha256::of(&data));
                assert_eq!(std::fs::read(partial.data()).unwrap(), data);
            });
        }
    }

    /// The bytes that a kill at this moment would leave.
    async fn survives(partial: &Partial, store: &Store, bytes: u64) -> RangeSet {
        while store.on_disk() < bytes {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        partial.contents().1
    }

    #[tokio::test]
    async fn what_arrives_in_order_survives_a_kill_even_after_a_run_that_was_out_of_order() {
        let directory = tempfile::tempdir().unwrap();
        let (partial, store) = store_in(directory.path()).await;
        let identity = Identity {
            validator: None,
            length: Some(100),
        };
        store.restart(identity).await.unwrap();
        store.write(0, Bytes::from_static(&[1; 10])).await.unwrap();
        assert_eq!(survives(&partial, &store, 10).await.len(), 10);
        store.write(50, Bytes::from_static(&[1; 10])).await.unwrap();
        assert_eq!(survives(&partial, &store, 20).await.run_end(0), 10);
        store.write(10, Bytes::from_static(&[1; 40])).await.unwrap();
        store.close().await.unwrap();

        let (identity, present) = partial.contents();
        assert_eq!((present.run_end(0), present.end()), (60, 60));
        let store = Store::open(&partial, 0, identity, present).unwrap();
        store.write(60, Bytes::from_static(&[1; 10])).await.unwrap();
        assert_eq!(survives(&partial, &store, 70).await.len(), 70);
    }

    #[tokio::test]
    async fn a_restart_forgets_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let (partial, store) = store_in(directory.path()).await;
        store.write(0, Bytes::from_static(b"of the old version")).await.unwrap();
        store.restart(Identity::default()).await.unwrap();
        store.write(0, Bytes::from_static(b"new")).await.unwrap();
        assert_eq!(store.seal().await.unwrap(), Sha256::of(b"new"));
        assert_eq!(std::fs::read(partial.data()).unwrap(), b"new");
    }
}
