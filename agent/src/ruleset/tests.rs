use super::*;

fn section() -> Section {
    Section {
        about: "a concern",
        family: Family::Inet,
        text: "chain a {\n\ttype filter hook forward priority 0; policy accept;\n}\n".into(),
    }
}

#[test]
fn sections_stand_in_one_table_that_takes_the_place_of_the_old_one() {
    assert_eq!(
        text(&[section(), moved::section(CopyBit::new(31).unwrap())]),
        "table inet ctsync\n\
         delete table inet ctsync\n\
         table inet ctsync {\n\
         \tcomment \"made and removed by ctsync\"\n\
         \n\
         \t# a concern\n\
         \tchain a {\n\
         \t\ttype filter hook forward priority 0; policy accept;\n\
         \t}\n\
         \n\
         \t# a flow that moves here is known by its first packet\n\
         \tchain moved {\n\
         \t\ttype filter hook postrouting priority 300; policy accept;\n\
         \t\tct mark & 0x80000000 != 0 ct mark set ct mark & 0x7fffffff\n\
         \t}\n\
         }\n"
    );
}

#[test]
fn no_sections_leave_no_table() {
    assert_eq!(text(&[]), "table inet ctsync\ndelete table inet ctsync\n");
}
