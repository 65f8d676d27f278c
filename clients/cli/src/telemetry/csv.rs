//! Comma-separated values, as RFC 4180 has them.

/// Splits a line into its fields; none when a quoted field does not end.
pub(crate) fn split(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line.trim_end_matches(['\r', '\n']);
    loop {
        let (field, after) = field(rest)?;
        fields.push(field);
        match after {
            Some(after) => rest = after,
            None => return Some(fields),
        }
    }
}

/// The first field, and what comes after its comma.
fn field(text: &str) -> Option<(String, Option<&str>)> {
    let Some(mut quoted) = text.trim_start_matches(' ').strip_prefix('"') else {
        let (field, after) = text.split_once(',').map_or((text, None), |(field, after)| (field, Some(after)));
        return Some((field.trim().to_owned(), after));
    };
    let mut field = String::new();
    loop {
        let (part, after) = quoted.split_once('"')?;
        field.push_str(part);
        match after.strip_prefix('"') {
            // Two quotes are one.
            Some(after) => {
                field.push('"');
                quoted = after;
            }
            None => return Some((field, after.split_once(',').map(|(_, after)| after))),
        }
    }
}

/// A field as it is written: quoted where it must be.
pub(crate) fn quote(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", field.replace('"', "\"\""));
    }
    field.to_owned()
}

/// A line of quoted fields, with its end.
pub(crate) fn line(fields: impl IntoIterator<Item = String>) -> String {
    let mut line = fields.into_iter().map(|field| quote(&field)).collect::<Vec<_>>().join(",");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split() {
        let check = |line: &str, expected: Option<&[&str]>| {
            let fields = split(line);
            let fields = fields.as_ref().map(|fields| fields.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(fields.as_deref(), expected, "{line}");
        };
        check("a,b", Some(&["a", "b"]));
        check("", Some(&[""]));
        check(" a , ,\r\n", Some(&["a", "", ""]));
        check(r#""a,b","c ""d""",e"#, Some(&["a,b", r#"c "d""#, "e"]));
        check(r#""open"#, None);
    }

    #[test]
    fn what_is_written_is_read() {
        for fields in [vec!["a", "b,c", "\"", ""], vec!["x"]] {
            let written = line(fields.iter().map(|field| (*field).to_owned()));
            assert_eq!(split(&written).expect("whole"), fields);
        }
    }
}
