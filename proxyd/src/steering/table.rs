//! The maps of a compiled table: their sizes before the programs are loaded, their content after.

use std::slice;

use aya::maps::{Array, HashMap, Map, MapError};
use aya::{Ebpf, EbpfLoader, Pod};
use steering_common::compile::Compiled;
use steering_common::layout::InForce;

use super::SteeringError;
use super::maps::during;

/// Elements of the map of ports, as large as [`steering_common::table::PortTerms`].
const ONE_ELEMENT: u32 = 1;

/// Tells the loader how large the maps of `table` are.
pub fn size(loader: &mut EbpfLoader<'_>, table: &Compiled) {
    for (name, length) in [
        ("BLOCKS", table.blocks.len()),
        ("NODES", table.nodes.len()),
        ("INTERFACE_ROWS", table.interfaces.len()),
        ("LINKS", table.links.len()),
        ("CELLS", table.cells.len()),
        ("CLASSES", table.classes.len()),
        ("WORDS", table.words.len()),
        ("OUTCOMES", table.outcomes.len()),
    ] {
        // A map has one element at least.
        loader.map_max_entries(name, count(length).max(ONE_ELEMENT));
    }
}

/// Fills the maps of the programs that were loaded for `table`.
pub fn fill(ebpf: &mut Ebpf, table: &Compiled) -> Result<(), SteeringError> {
    write(ebpf, "LAYOUT", slice::from_ref(&table.layout))?;
    write(ebpf, "BLOCKS", &table.blocks)?;
    write(ebpf, "NODES", &table.nodes)?;
    write(ebpf, "LINKS", &table.links)?;
    write(ebpf, "CELLS", &table.cells)?;
    write(ebpf, "CLASSES", &table.classes)?;
    write(ebpf, "WORDS", &table.words)?;
    write(ebpf, "OUTCOMES", &table.outcomes)?;
    write(ebpf, "PORT_TERMS", &table.ports)?;
    write(ebpf, "VLAN_COLUMNS", &table.vlans)?;
    let mut rows: HashMap<_, u32, u32> = take(ebpf, "INTERFACE_ROWS")?;
    for (ifindex, row) in &table.interfaces {
        rows.insert(ifindex, row, 0).map_err(during("INTERFACE_ROWS"))?;
    }
    Ok(())
}

/// Sizes of `table`, for whoever asks what is in force.
pub fn sizes(table: &Compiled) -> InForce {
    InForce {
        generation: 0,
        bytes: table.bytes() as u64,
        took_ns: 0,
        rules: count(table.outcomes.len()),
        prefixes: table.prefixes,
        blocks: count(table.blocks.len()),
        nodes: count(table.nodes.len()),
        cells: count(table.cells.len()),
        classes: count(table.classes.len()),
        engine: table.layout.engine,
        ipv4_engine: table.layout.ipv4_engine,
    }
}

fn write<T: Pod>(ebpf: &mut Ebpf, name: &'static str, elements: &[T]) -> Result<(), SteeringError> {
    let mut map: Array<_, T> = take(ebpf, name)?;
    for (index, element) in (0..).zip(elements) {
        map.set(index, element, 0).map_err(during(name))?;
    }
    Ok(())
}

fn take<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, SteeringError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or(SteeringError::NotInObject { name })?;
    T::try_from(map).map_err(during(name))
}

/// The bytes of a table are limited far below 2^32 elements.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
