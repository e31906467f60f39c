//! Exports the data of channels as packets, as if each channel were a TCP connection in clear.
mod block;
mod flow;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;

use block::{interface, packet, section};
use flow::{Flow, Segment};

use super::CHANNELS_OPEN_MAX;
use crate::channels::ChannelKinds;
use crate::error::TrailError;
use crate::reader::Reader;
use crate::record::{Record, Source};
use crate::screen::ScreenFilter;
use crate::stream::Stream;

/// What was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportedPackets {
    /// Channels that carried data.
    pub channels: usize,
    /// Packets written, those that were made up included.
    pub packets: u64,
}

/// Writes what channels carried, or one of them, as pcapng (draft-ietf-opsawg-pcapng) with raw IP
/// packets.
///
/// Each channel is a TCP connection between the client and the server, whose payload is the
/// channel's data in clear. The first that carries data has the client's own port, each further one
/// a port made up from 49152 on. Handshakes, acknowledgements and what ends a connection are made
/// up, at the time of the record that they belong to; a comment names the channel and the source of
/// the data. If client and server have addresses of different families, both are shown in IPv6
/// (RFC 4291 section 2.5.5.2). What the client sent is left out where the reader does not open it.
///
/// The addresses are those of the facts `client` and `target`, or the event `target`. Where the
/// trail does not name the client it is `client`. Fails with [`TrailError::NoAddress`] if an
/// address is missing, with [`TrailError::TooManyChannels`] or [`TrailError::TooManyPorts`], and as
/// the reader does.
pub fn export_pcapng<R: Read>(
    reader: &mut Reader<R>,
    client: Option<SocketAddr>,
    channel: Option<u32>,
    out: impl Write,
) -> Result<ExportedPackets, TrailError> {
    let header = &reader.header().header;
    let mut comment = format!(
        "proxyd trail, protocol {}, connection policy {}: the data of its channels in clear",
        clean(&header.protocol),
        clean(&header.connection_policy)
    );
    let mut export = Export {
        out,
        created_ns: header.created_ns,
        only: channel,
        kinds: ChannelKinds::new(),
        client: None,
        server: None,
        flows: BTreeMap::new(),
        channels: 0,
        packets: 0,
    };
    if !reader.opens(Stream::Upstream) {
        comment.push_str("; what the client sent is not open to this export");
    }
    export.write(&section(&comment))?;
    export.write(&interface())?;
    while let Some(entry) = reader.next_record()? {
        export.record(entry.t_ns, client, &entry.record)?;
    }
    export.out.flush().map_err(|source| TrailError::Export { source })?;
    Ok(ExportedPackets { channels: export.channels, packets: export.packets })
}

/// The export as far as it is written.
struct Export<W> {
    out: W,
    created_ns: u64,
    /// The only channel, if one was asked for.
    only: Option<u32>,
    kinds: ChannelKinds,
    /// Addresses that the trail names.
    client: Option<SocketAddr>,
    server: Option<SocketAddr>,
    /// Channels that are open and carry data.
    flows: BTreeMap<u32, Flow>,
    /// Channels that carried data so far.
    channels: usize,
    packets: u64,
}

impl<W: Write> Export<W> {
    /// Writes the packets of a record, if it carries data or ends a channel.
    fn record(
        &mut self,
        t_ns: u64,
        client: Option<SocketAddr>,
        record: &Record<'_>,
    ) -> Result<(), TrailError> {
        self.kinds.take(record);
        self.take_addresses(record);
        if let Record::Data { channel, source, bytes } = record
            && self.only.is_none_or(|only| only == *channel)
        {
            return self.data(t_ns, client, *channel, (*source, bytes));
        }
        if let Record::ChannelClose { channel } = record
            && let Some(mut flow) = self.flows.remove(channel)
        {
            return self.send(t_ns, &flow.close()?, &format!("channel {channel} is closed"));
        }
        Ok(())
    }

    /// Takes the addresses that a record names.
    fn take_addresses(&mut self, record: &Record<'_>) {
        if let Record::Fact { name: "client", value } = record {
            self.client = value.parse().ok();
        }
        if let Record::Fact { name: "target", value } = record {
            self.server = value.parse().ok();
        }
        if let Record::Event { kind: "target", fields } = record {
            let address = fields.iter().find(|(name, _)| *name == "address");
            self.server = address.and_then(|(_, value)| value.parse().ok()).or(self.server);
        }
    }

    fn data(
        &mut self,
        t_ns: u64,
        client: Option<SocketAddr>,
        channel: u32,
        (source, bytes): (Source, &[u8]),
    ) -> Result<(), TrailError> {
        let mut flow = match self.flows.remove(&channel) {
            Some(flow) => flow,
            None => self.open(t_ns, client, channel)?,
        };
        let name = match source {
            Source::Stdin => "stdin",
            Source::Stdout => "stdout",
            Source::Stderr => "stderr",
        };
        let comment = format!("channel {channel}, {name}");
        for segments in flow.data(source, bytes) {
            self.send(t_ns, &segments?, &comment)?;
        }
        self.flows.insert(channel, flow);
        Ok(())
    }

    /// The connection of a channel that carries data for the first time.
    fn open(
        &mut self,
        t_ns: u64,
        client: Option<SocketAddr>,
        channel: u32,
    ) -> Result<Flow, TrailError> {
        let client = self.client.or(client).ok_or(TrailError::NoAddress { peer: "client" })?;
        let server = self.server.ok_or(TrailError::NoAddress { peer: "server" })?;
        if self.flows.len() >= CHANNELS_OPEN_MAX {
            return Err(TrailError::TooManyChannels { limit: CHANNELS_OPEN_MAX });
        }
        let port = port(self.channels, client.port())?;
        let kind = clean(self.kinds.kind(channel).unwrap_or("unknown"));
        let made_up = if self.channels == 0 { "" } else { ", with a port that is made up" };
        let comment = format!("channel {channel}, {kind}{made_up}");
        self.channels += 1;
        let mut flow = Flow::new(SocketAddr::new(client.ip(), port), server);
        self.send(t_ns, &flow.open()?, &comment)?;
        Ok(flow)
    }

    /// Writes segments; the comment goes to those with data, or to the first.
    fn send(&mut self, t_ns: u64, segments: &[Segment], comment: &str) -> Result<(), TrailError> {
        let wall_ns = self.created_ns.saturating_add(t_ns);
        for (index, segment) in segments.iter().enumerate() {
            let comment = (segment.has_data || index == 0).then_some(comment);
            self.write(&packet(wall_ns, &segment.packet, comment))?;
            self.packets += 1;
        }
        Ok(())
    }

    fn write(&mut self, block: &[u8]) -> Result<(), TrailError> {
        self.out.write_all(block).map_err(|source| TrailError::Export { source })
    }
}

/// The client's port for the connection with this index: its own, then those of the range for
/// private use, but for its own.
fn port(index: usize, own: u16) -> Result<u16, TrailError> {
    let Some(offset) = index.checked_sub(1) else { return Ok(own) };
    let port = u16::try_from(offset).ok().and_then(|offset| PORT_MIN.checked_add(offset));
    let is_behind_own = port.is_some_and(|port| (PORT_MIN..=port).contains(&own));
    let port = if is_behind_own { port.and_then(|port| port.checked_add(1)) } else { port };
    port.ok_or(TrailError::TooManyPorts { limit: PORTS + usize::from(own < PORT_MIN) })
}

/// A name on one line, as short as comments want it.
fn clean(name: &str) -> String {
    let text = ScreenFilter::text().pass(name.as_bytes());
    text.chars().filter(|character| !character.is_control()).take(NAME_CHARS_MAX).collect()
}

/// The first port for private use (RFC 6335 section 6).
const PORT_MIN: u16 = 49_152;

/// Ports for private use.
const PORTS: usize = 16_384;

/// Characters of a name in a comment.
const NAME_CHARS_MAX: usize = 64;
