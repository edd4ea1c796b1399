//! Errors of bind(), listen() and connect(), by their names.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! errnos {
    ($($name:ident),+ $(,)?) => {
        /// An error of `bind()`, `listen()` or `connect()`, as errno(3) names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Errno {
            $($name,)+
            /// One that none of these calls gives.
            Other(i32),
        }

        impl From<i32> for Errno {
            fn from(number: i32) -> Self {
                match number {
                    $(libc::$name => Self::$name,)+
                    other => Self::Other(other),
                }
            }
        }

        /// `ECONNREFUSED` and so on; `errno N` for another.
        impl fmt::Display for Errno {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str(stringify!($name)),)+
                    Self::Other(number) => write!(f, "errno {number}"),
                }
            }
        }
    };
}

errnos!(
    EPERM,
    EINTR,
    EIO,
    EAGAIN,
    ENOMEM,
    EACCES,
    EFAULT,
    EBUSY,
    ENODEV,
    EINVAL,
    EPIPE,
    EPROTO,
    EOPNOTSUPP,
    EAFNOSUPPORT,
    EADDRINUSE,
    EADDRNOTAVAIL,
    ENETDOWN,
    ENETUNREACH,
    ECONNABORTED,
    ECONNRESET,
    ENOBUFS,
    EISCONN,
    ENOTCONN,
    ETIMEDOUT,
    ECONNREFUSED,
    EHOSTDOWN,
    EHOSTUNREACH,
    EALREADY,
    EINPROGRESS,
    ECANCELED
);
