//! Small files that others read while they are written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Who reads the file sees the old content or the new one, never half of it, also after a power cut. The directory is made.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(fresh, path)
}

#[cfg(test)]
mod tests {
    use super::replace;

    #[test]
    fn the_file_is_replaced_whole_and_its_directory_made() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("run").join("track");
        for text in ["100\n", "0\n"] {
            replace(&file, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
        let left = std::fs::read_dir(file.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1);
    }
}
