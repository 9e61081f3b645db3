//! The archive as one SQLite file: `store` has its queries, `identity` detects that it was removed,
//! `work` converts, copies and deletes in slices, `staging` collects what is to be imported, `schema` and
//! `rows` define the tables.

mod identity;
mod rows;
mod schema;
mod staging;
mod store;
#[cfg(test)]
mod tests;
mod work;

pub(super) use identity::inode;
pub(super) use schema::check;
pub use staging::Staging;
pub(super) use store::Store;
