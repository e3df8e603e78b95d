//! The commands that are sent, each as a future of its own, which can go on without whoever asked.

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Result;

/// A collection.
#[derive(Clone)]
pub(super) struct Table(Collection<Document>);

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) filter: Document,
    pub(super) fields: Document,
    pub(super) order: Document,
    pub(super) limit: usize,
}

impl Table {
    /// The most documents that one answer has.
    pub(super) const MOST: usize = 1_000;

    pub(super) fn new(collection: Collection<Document>) -> Self {
        Self(collection)
    }

    pub(super) fn collection(&self) -> Collection<Document> {
        self.0.clone()
    }

    pub(super) fn first(
        &self,
        filter: Document,
        fields: Document,
    ) -> impl Future<Output = Result<Option<Document>>> + Send + use<> {
        let table = self.0.clone();
        async move { table.find_one(filter).projection(fields).await }
    }

    pub(super) fn all(
        &self,
        question: Question,
    ) -> impl Future<Output = Result<Vec<Document>>> + Send + use<> {
        let table = self.0.clone();
        let limit = question.limit.min(Self::MOST);
        let batch = u32::try_from(limit).unwrap_or(u32::MAX);
        async move {
            let found = table.find(question.filter).projection(question.fields);
            let found = found.sort(question.order).limit(i64::from(batch));
            found.batch_size(batch).await?.try_collect().await
        }
    }

    /// Changes a document. Returns whether there was one.
    pub(super) fn update(
        &self,
        filter: Document,
        update: Document,
    ) -> impl Future<Output = Result<bool>> + Send + use<> {
        let table = self.0.clone();
        async move { Ok(table.update_one(filter, update).await?.matched_count > 0) }
    }

    /// Changes a document, which is made if it is not there.
    pub(super) fn upsert(
        &self,
        filter: Document,
        update: Document,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let table = self.0.clone();
        async move {
            table
                .update_one(filter, update)
                .upsert(true)
                .await
                .map(drop)
        }
    }

    pub(super) fn insert(
        &self,
        document: Document,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let table = self.0.clone();
        async move { table.insert_one(document).await.map(drop) }
    }

    /// Deletes a document. Returns whether there was one.
    pub(super) fn delete(
        &self,
        filter: Document,
    ) -> impl Future<Output = Result<bool>> + Send + use<> {
        let table = self.0.clone();
        async move { Ok(table.delete_one(filter).await?.deleted_count > 0) }
    }

    pub(super) fn count(
        &self,
        filter: Document,
    ) -> impl Future<Output = Result<u64>> + Send + use<> {
        let table = self.0.clone();
        async move { table.count_documents(filter).await }
    }

    /// How many elements an array has in all documents.
    pub(super) fn sum(
        &self,
        filter: Document,
        array: &str,
    ) -> impl Future<Output = Result<u64>> + Send + use<> {
        let table = self.0.clone();
        let size = doc! { "$sum": { "$size": array } };
        let stages = [
            doc! { "$match": filter },
            doc! { "$group": { "_id": Bson::Null, "sum": size } },
        ];
        async move {
            let mut sums = table.aggregate(stages).await?;
            let sum = sums
                .try_next()
                .await?
                .and_then(|sums| match sums.get("sum")? {
                    Bson::Int32(sum) => u64::try_from(*sum).ok(),
                    Bson::Int64(sum) => u64::try_from(*sum).ok(),
                    _ => None,
                });
            Ok(sum.unwrap_or(0))
        }
    }
}
