//! Recordings: everything that a run received, as a file.
//!
//! ```text
//! "tracer\0\x01"      magic, and the version of the form
//! length (u32, LE)    of the frame that follows: a Setup, then Inputs, each as postcard
//! ```
//!
//! A recording is of one version: the types of its frames are those of the core. One that was cut short by an abnormal end
//! is read up to there.

use std::fmt;
use std::io::{self, Read, Write};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::run::{Input, Setup};

/// What a recording begins with; the last byte is the version of its form.
pub const MAGIC: [u8; 8] = *b"tracer\0\x01";

/// Longest frame: an answer about a host with a hundred thousand namespaces is shorter.
const FRAME_MAX: u32 = 256 << 20;

/// Bytes that are kept before they are written.
const BUFFER: usize = 64 << 10;

/// Why a recording cannot be read.
#[derive(Debug)]
pub enum Error {
    Io(io::Error),
    /// It does not begin as a recording does.
    NotARecording,
    /// It is of another version of the form.
    OtherVersion(u8),
    /// A frame is not what it should be.
    Malformed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotARecording => f.write_str("it is not a recording of tracer"),
            Self::OtherVersion(version) => {
                write!(f, "it is a recording of version {version}; this tracer reads version {}", MAGIC[7])
            }
            Self::Malformed => f.write_str("it is damaged: a frame is not what it should be"),
        }
    }
}

impl std::error::Error for Error {}

/// Writes a recording.
pub struct Recorder<W: Write> {
    out: W,
    buffer: BytesMut,
}

impl<W: Write> Recorder<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub fn new(out: W, setup: &Setup) -> io::Result<Self> {
        let mut recorder = Self { out, buffer: BytesMut::with_capacity(BUFFER) };
        recorder.buffer.put_slice(&MAGIC);
        recorder.frame(setup)?;
        recorder.flush()?;
        Ok(recorder)
    }

    /// Adds an input.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub fn input(&mut self, input: &Input) -> io::Result<()> {
        self.frame(input)?;
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn frame(&mut self, value: &impl Serialize) -> io::Result<()> {
        let bytes = postcard::to_allocvec(value).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.buffer.put_u32_le(length);
        self.buffer.put_slice(&bytes);
        Ok(())
    }

    /// Writes what was added.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        self.out.flush()
    }
}

/// Reads a recording.
pub struct Recording<R: Read> {
    input: R,
}

impl<R: Read> Recording<R> {
    /// Opens a recording, and gives what its run was made with.
    ///
    /// # Errors
    /// When it is not one that this version reads.
    pub fn open(mut input: R) -> Result<(Self, Setup), Error> {
        let mut magic = [0; MAGIC.len()];
        match input.read_exact(&mut magic) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Error::NotARecording),
            read => read.map_err(Error::Io)?,
        }
        if magic[..7] != MAGIC[..7] {
            return Err(Error::NotARecording);
        }
        if magic[7] != MAGIC[7] {
            return Err(Error::OtherVersion(magic[7]));
        }
        let mut recording = Self { input };
        let setup = recording.frame()?.ok_or(Error::Malformed)?;
        Ok((recording, setup))
    }

    /// The next input; `None`: the recording ends, perhaps cut short.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn next_input(&mut self) -> Result<Option<Input>, Error> {
        self.frame()
    }

    fn frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let mut length = [0; 4];
        if !self.fill(&mut length)? {
            return Ok(None);
        }
        let length = Bytes::copy_from_slice(&length).get_u32_le();
        if length > FRAME_MAX {
            return Err(Error::Malformed);
        }
        // As much as is there: the length may be damaged.
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(u64::from(length)).read_to_end(&mut bytes).map_err(Error::Io)?;
        if read < length as usize {
            return Ok(None);
        }
        postcard::from_bytes(&bytes).map(Some).map_err(|_| Error::Malformed)
    }

    /// Reads as many bytes; false: there are fewer.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, Error> {
        match self.input.read_exact(buffer) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(Error::Io(error)),
        }
    }
}
