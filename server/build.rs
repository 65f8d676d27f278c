//! Writes the table of bundled models: every version under `models/zoo`, embedded into the program.

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

#[expect(clippy::disallowed_methods, reason = "a build script has no fs_err")]
fn main() -> Result<(), Box<dyn Error>> {
    let zoo = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../models/zoo").canonicalize()?;
    println!("cargo:rerun-if-changed={}", zoo.display());
    let mut folders: Vec<_> = fs::read_dir(&zoo)?.collect::<Result<_, _>>()?;
    folders.sort_by_key(fs::DirEntry::file_name);
    let mut table = String::from("/// Every bundled model.\npub(crate) const BUNDLED: &[BundledModel] = &[\n");
    for folder in folders {
        let manifest = folder.path().join("manifest.toml");
        if !manifest.is_file() {
            continue;
        }
        println!("cargo:rerun-if-changed={}", manifest.display());
        let text = fs::read_to_string(&manifest)?;
        let mut files = named_files(&text.parse::<toml::Table>()?);
        if folder.path().join("README.md").is_file() {
            files.push("README.md".to_owned());
        }
        files.sort();
        files.dedup();
        writeln!(table, "    BundledModel {{ manifest_toml: include_str!({manifest:?}), files: &[")?;
        for file in files {
            let path = folder.path().join(&file);
            println!("cargo:rerun-if-changed={}", path.display());
            writeln!(table, "        ({file:?}, include_bytes!({path:?})),")?;
        }
        table.push_str("    ] },\n");
    }
    table.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("bundled.rs"), table)?;
    Ok(())
}

/// Files that heads, golden cases and `[[files]]` name; the registry checks the rest when the models register.
fn named_files(manifest: &toml::Table) -> Vec<String> {
    let text = |table: &toml::Value, key: &str| table.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let heads = |table: &toml::Table| {
        let heads = table.get("heads").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        heads.iter().filter_map(|head| text(head, "file")).collect::<Vec<_>>()
    };
    let mut files = heads(manifest);
    for variant in manifest.get("variants").and_then(toml::Value::as_array).into_iter().flatten() {
        files.extend(variant.as_table().map(heads).unwrap_or_default());
    }
    files.extend(manifest.get("golden").and_then(|golden| text(golden, "file")));
    let listed = manifest.get("files").and_then(toml::Value::as_array).into_iter().flatten();
    files.extend(listed.filter_map(|file| text(file, "path")));
    files
}
