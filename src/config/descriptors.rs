//! `descriptors:`: files with the descriptors of protobuf types, beside those of this build.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::load::Reader;
use super::section::Section;
use crate::schema::protobuf::Descriptors;

/// Most bytes of one file: all of Envoy's API with its comments has a tenth of it.
const FILE_MAX: u64 = 64 << 20;
const HINT: &str = "a FileDescriptorSet with all it imports, as `buf build -o FILE` or `protoc --include_imports -o FILE` make it";

/// The types of all files and of this build, `None` without files; one that is wrong is told where it is named.
pub(super) fn read(reader: &mut Reader<'_>, root: &Section) -> Option<Arc<Descriptors>> {
    let section = root.get("descriptors").filter(|section| !section.is_null())?;
    if !section.is_list() {
        reader.errors.push(section.error_with_hint("", "expected a list of files", "descriptors: [FILE]"));
        return None;
    }
    let mut sets = Vec::new();
    for item in section.items() {
        match set(&item) {
            Ok(set) => sets.push((item, set)),
            Err(reason) => reader.errors.push(item.error_with_hint("", reason, HINT)),
        }
    }
    if sets.is_empty() {
        return None;
    }
    let bytes: Vec<&[u8]> = sets.iter().map(|(_, set)| set.as_slice()).collect();
    match Descriptors::with(&bytes) {
        Ok(all) => Some(all),
        Err((at, reason)) => {
            let (item, _) = sets.get(at)?;
            reader.errors.push(item.error_with_hint("", format!("cannot be read: {reason}"), HINT));
            None
        }
    }
}

/// The bytes of a file, whose path is relative to the configuration file.
fn set(item: &Section) -> Result<Vec<u8>, String> {
    let path = item.text().ok_or("expected the path of a file")?;
    let path = Path::new(item.file()).parent().unwrap_or(Path::new("")).join(path);
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut bytes = Vec::new();
    File::open(&path).map_err(failed)?.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(format!("{} has more than {FILE_MAX} bytes", path.display()));
    }
    Ok(bytes)
}
