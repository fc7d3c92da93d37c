//! What the system says about this process and its machine.

use std::fs;
use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes asked for each buffer of each UDP socket, of every library that lets one say so.
pub const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// Keeps this thread, and all it starts, on one core.
///
/// # Errors
/// When there is no such core.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {cpu}"))
}

/// Lets this process open as many files as the system allows: a thousand connections may be as many sockets.
///
/// # Errors
/// When the system refuses.
pub fn allow_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// Nanoseconds of a clock that all processes of the machine share.
#[must_use]
pub fn monotonic() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Nanoseconds that all threads of this process have run, in user and kernel mode.
#[must_use]
pub fn cpu_time() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// [`cpu_time`].
    pub cpu: u64,
    /// Bytes of memory that are resident.
    pub resident: u64,
    /// How often it was taken off its core although it wanted to run.
    pub interrupted: u64,
}

impl Usage {
    /// Of this process, now.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn now() -> Result<Self> {
        let pages = fs::read_to_string("/proc/self/statm")?;
        let pages: u64 = pages.split_whitespace().nth(1).context("statm has no second field")?.parse()?;
        let status = fs::read_to_string("/proc/self/status")?;
        let interrupted = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
        let interrupted = interrupted.context("no switches in status")?.trim().parse()?;
        Ok(Self { cpu: cpu_time(), resident: pages * rustix::param::page_size() as u64, interrupted })
    }
}

/// A UDP socket with buffers of [`SOCKET_BUFFER`], as far as the system allows.
///
/// # Errors
/// When it cannot be bound.
pub fn udp_socket(address: SocketAddr) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into()).with_context(|| format!("cannot bind {address}"))?;
    Ok(socket.into())
}

/// The sizes of the buffers that a socket of [`udp_socket`] has, in the words of the table.
#[must_use]
pub fn udp_buffers() -> String {
    let sizes = || -> Result<String> {
        let socket = Socket::from(udp_socket(SocketAddr::from(([127, 0, 0, 1], 0)))?);
        // Linux counts its own overhead in, twice what was asked for.
        Ok(format!("{} KiB send, {} KiB receive", socket.send_buffer_size()? / 2048, socket.recv_buffer_size()? / 2048))
    };
    sizes().unwrap_or_else(|error| error.to_string())
}

/// The congestion control of the kernel's TCP.
#[must_use]
pub fn tcp_congestion_control() -> String {
    fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")
        .map_or_else(|error| error.to_string(), |name| name.trim().to_owned())
}
