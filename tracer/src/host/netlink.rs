//! One netlink dump: a request, and the messages that answer it.

use std::fmt;
use std::io;
use std::time::Duration;

use netlink_packet_core::{
    Emitable, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NetlinkBuffer,
    NetlinkHeader,
};
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

/// A dump's datagrams are 32 KiB at most, whatever the reader offers (`netlink_dump()` in
/// net/netlink/af_netlink.c, 4.4 to 6.18), so this never cuts one; if it does, the dump fails by name.
const BUFFER: usize = 64 * 1024;

/// The kernel answers a dump within the calls themselves: this only bounds what ought not to happen.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How often a dump is taken again when what it lists changed meanwhile.
const ATTEMPTS: u32 = 8;

const HEADER: usize = 16;

/// Why a dump gave no answer.
#[derive(Debug)]
pub enum Error {
    /// The socket could not be opened, written or read.
    Socket(io::Error),
    /// The kernel answered with an error.
    Refused(io::Error),
    /// What it lists changed during each of the attempts.
    Changing,
    /// The answer is not in the form of netlink(7).
    Malformed(String),
}

impl Error {
    pub fn malformed(why: impl fmt::Display) -> Self {
        Self::Malformed(why.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(err) => write!(f, "netlink socket: {err}"),
            Self::Refused(err) => write!(f, "netlink dump: {err}"),
            Self::Changing => write!(f, "netlink dump: it changed during each of {ATTEMPTS} attempts"),
            Self::Malformed(why) => write!(f, "netlink dump: malformed answer: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// A netlink socket in the namespace of the thread that opened it, which it pins until it is dropped.
pub struct Channel {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Channel {
    /// Opens a socket of `protocol` (`NETLINK_ROUTE`, `NETLINK_SOCK_DIAG`).
    pub fn open(protocol: isize) -> Result<Self, Error> {
        let socket = Socket::new(protocol).map_err(Error::Socket)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(TIMEOUT)).map_err(|err| Error::Socket(err.into()))?;
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER), sequence: 0 })
    }

    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Sends a dump request of `message_type` with `body`, and collects what `parse` makes of each
    /// message (its type and payload). Taken again, from the start, when the kernel reports that the list
    /// changed while it was written.
    pub fn dump<T>(
        &mut self,
        message_type: u16,
        body: &[u8],
        mut parse: impl FnMut(u16, &[u8]) -> Result<Option<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut found = Vec::new();
        for _ in 0..ATTEMPTS {
            found.clear();
            self.sequence += 1;
            self.send(message_type, body)?;
            let interrupted = self.receive(|message_type, payload| {
                found.extend(parse(message_type, payload)?);
                Ok(())
            })?;
            if !interrupted {
                return Ok(found);
            }
        }
        Err(Error::Changing)
    }

    fn send(&self, message_type: u16, body: &[u8]) -> Result<(), Error> {
        let mut header = NetlinkHeader::default();
        header.length = (HEADER + body.len()) as u32;
        header.message_type = message_type;
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.sequence;
        let mut message = vec![0; HEADER + body.len()];
        header.emit(&mut message[..HEADER]);
        message[HEADER..].copy_from_slice(body);

        let kernel = SocketAddr::new(0, 0);
        retry_on_signal(|| self.socket.send_to(&message, &kernel, 0)).map(drop).map_err(Error::Socket)
    }

    /// Reads to the end of the dump; whether it was marked as interrupted.
    fn receive(&mut self, mut each: impl FnMut(u16, &[u8]) -> Result<(), Error>) -> Result<bool, Error> {
        let mut interrupted = false;
        loop {
            let (socket, buffer) = (&self.socket, &mut self.buffer);
            // With MSG_TRUNC the length returned is the datagram's, also where the buffer is shorter.
            let (length, sender) = retry_on_signal(|| {
                buffer.clear();
                socket.recv_from(buffer, libc::MSG_TRUNC)
            })
            .map_err(Error::Socket)?;
            if length > buffer.len() {
                return Err(Error::malformed(format_args!("a datagram of {length} bytes")));
            }
            // Any process may send to a netlink socket; the kernel's own port is 0.
            if sender.port_number() != 0 {
                continue;
            }
            let ended = messages(buffer, self.sequence, &mut interrupted, &mut each)?;
            if ended {
                return Ok(interrupted);
            }
        }
    }
}

/// Walks the messages of one datagram; whether the dump ends in it.
pub(crate) fn messages(
    mut datagram: &[u8],
    sequence: u32,
    interrupted: &mut bool,
    mut each: impl FnMut(u16, &[u8]) -> Result<(), Error>,
) -> Result<bool, Error> {
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(datagram).map_err(Error::malformed)?;
        let payload = message.payload();
        let length = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(length..).unwrap_or_default();
        if message.sequence_number() != sequence {
            continue;
        }
        *interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
        match message.message_type() {
            NLMSG_NOOP => {}
            // Both begin with an errno, negative; a dump's end carries one where the dump failed midway.
            NLMSG_DONE | NLMSG_ERROR => {
                let code = payload.first_chunk().copied().map_or(0, i32::from_ne_bytes);
                return match code {
                    0 => Ok(true),
                    _ => Err(Error::Refused(io::Error::from_raw_os_error(code.saturating_neg()))),
                };
            }
            message_type => each(message_type, payload)?,
        }
    }
    Ok(false)
}

fn retry_on_signal<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(message_type: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.length = (HEADER + payload.len()) as u32;
        header.message_type = message_type;
        header.flags = flags;
        header.sequence_number = sequence;
        let mut bytes = vec![0; HEADER];
        header.emit(&mut bytes);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    type Seen = Vec<(u16, Vec<u8>)>;

    fn walk(datagram: &[u8]) -> (Result<bool, Error>, bool, Seen) {
        let (mut interrupted, mut seen) = (false, Vec::new());
        let result = messages(datagram, 7, &mut interrupted, |message_type, payload| {
            seen.push((message_type, payload.to_vec()));
            Ok(())
        });
        (result, interrupted, seen)
    }

    #[test]
    fn a_datagram_holds_several_messages_and_the_end() {
        let mut datagram = message(20, 2, 7, b"one");
        datagram.extend(message(20, 2, 6, b"of another dump"));
        datagram.extend(message(20, 2 | NLM_F_DUMP_INTR, 7, b"two"));
        let (result, interrupted, seen) = walk(&datagram);
        assert!(!result.unwrap());
        assert!(interrupted);
        assert_eq!(seen, [(20, b"one".to_vec()), (20, b"two".to_vec())]);

        datagram.extend(message(NLMSG_DONE, 2, 7, &0_i32.to_ne_bytes()));
        assert!(walk(&datagram).0.unwrap());
    }

    #[test]
    fn an_error_ends_the_dump_also_in_its_last_message() {
        for message_type in [NLMSG_ERROR, NLMSG_DONE] {
            let datagram = message(message_type, 0, 7, &(-libc::ENOENT).to_ne_bytes());
            match walk(&datagram).0 {
                Err(Error::Refused(err)) => assert_eq!(err.raw_os_error(), Some(libc::ENOENT)),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_length_beyond_the_datagram_is_malformed() {
        let mut datagram = message(20, 2, 7, b"four");
        datagram[0] = 200;
        assert!(matches!(walk(&datagram).0, Err(Error::Malformed(_))));
        assert!(matches!(walk(&datagram[..5]).0, Err(Error::Malformed(_))));
    }
}
