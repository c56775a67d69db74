//! The table `tasks`: the truth. Every transition of a record is one conditional write that returns the old item when its
//! condition fails, so no read comes before it and two writers can never both believe that they were first. What the
//! transitions are: [`reelhook_core::transition`].
//!
//! A write whose response is lost is repeated by the SDK, and then it is our own write that the condition fails over. So each
//! write leaves an id of its own in the item (`write_id`), and a repeated one recognises it.

mod due;
mod leases;
mod listing;
mod ownership;
mod render;
mod reports;
mod submissions;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use reelhook_core::TaskKey;
use reelhook_core::item::{Attribute, DamagedRecord, Item, Value};
use reelhook_core::record::Record;
use reelhook_core::transition::{Applied, Effect, Transition, Write};

use self::render::{Expressions, item};
use crate::clients::{described, described_service};
use crate::unique_id::unique_id;

pub use self::leases::{Claimed, Fenced};
pub use self::listing::Page;
pub use self::ownership::Owned;
pub use self::reports::{Noted, Recorded};
pub use self::submissions::Registered;

/// The table.
#[derive(Clone, Debug)]
pub struct Table {
    client: aws_sdk_dynamodb::Client,
    name: String,
}

/// Why a call did not work. Nothing is known to be written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The table did not respond, or refused.
    #[error("{action} of {task} failed: {reason}")]
    Call {
        /// What was tried.
        action: &'static str,
        /// The task.
        task: String,
        /// What the SDK says.
        reason: String,
    },
    /// An item that cannot be read.
    #[error(transparent)]
    Damaged(#[from] DamagedRecord),
}

impl Table {
    /// A table by name.
    pub fn new(client: aws_sdk_dynamodb::Client, name: String) -> Self {
        Self { client, name }
    }

    /// A record, read consistently.
    pub async fn get(&self, task: &TaskKey) -> Result<Option<Record>, TableError> {
        let response = self
            .client
            .get_item()
            .table_name(&self.name)
            .key(Attribute::Task.to_string(), key(task))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| failed("reading", task, &error))?;
        response.item.map(|stored| record(&item(stored))).transpose()
    }

    /// Carries out a transition, and returns the record as it is now or as it stood in the way.
    async fn apply(&self, transition: &Transition) -> Result<Applied<Record>, TableError> {
        Ok(match self.apply_to_item(transition).await? {
            Applied::Done(item) => Applied::Done(item.as_ref().map(record).transpose()?),
            Applied::Refused(item) => Applied::Refused(item.as_ref().map(record).transpose()?),
        })
    }

    /// The same over items, as [`Transition::evaluate`] gives them.
    ///
    /// # Errors
    /// When the table did not respond, or refused the call itself.
    pub async fn apply_to_item(&self, transition: &Transition) -> Result<Applied<Item>, TableError> {
        match &transition.write {
            Write::Update(effects) => self.update(transition, effects).await,
            Write::Delete => self.delete(transition).await,
        }
    }

    async fn update(&self, transition: &Transition, effects: &[Effect]) -> Result<Applied<Item>, TableError> {
        let own = Value::Text(unique_id());
        let identify = Effect::Set(Attribute::WriteId, own.clone());
        let mut expressions = Expressions::default();
        let update = expressions.update(effects.iter().chain([&identify]));
        let condition = expressions.condition(&transition.condition);
        let response = self
            .client
            .update_item()
            .table_name(&self.name)
            .key(Attribute::Task.to_string(), key(&transition.task))
            .update_expression(update)
            .condition_expression(condition)
            .set_expression_attribute_names(Some(expressions.names))
            .set_expression_attribute_values(Some(expressions.values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match response {
            Ok(response) => Ok(Applied::Done(response.attributes.map(item))),
            Err(SdkError::ServiceError(error)) => match error.into_err() {
                UpdateItemError::ConditionalCheckFailedException(refused) => {
                    Ok(match refused.item.map(item) {
                        // The first try was written and its response lost. Whoever wrote in between has left their own id; then
                        // this write counts as refused, which every caller copes with.
                        Some(item) if item.get(&Attribute::WriteId) == Some(&own) => Applied::Done(Some(item)),
                        item => Applied::Refused(item),
                    })
                }
                other => Err(refused(transition, &other)),
            },
            Err(error) => Err(failed(transition.action, &transition.task, &error)),
        }
    }

    async fn delete(&self, transition: &Transition) -> Result<Applied<Item>, TableError> {
        let mut expressions = Expressions::default();
        let condition = expressions.condition(&transition.condition);
        let response = self
            .client
            .delete_item()
            .table_name(&self.name)
            .key(Attribute::Task.to_string(), key(&transition.task))
            .condition_expression(condition)
            .set_expression_attribute_names(Some(expressions.names))
            .set_expression_attribute_values(Some(expressions.values).filter(|values| !values.is_empty()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match response {
            Ok(_) => Ok(Applied::Done(None)),
            Err(SdkError::ServiceError(error)) => match error.into_err() {
                DeleteItemError::ConditionalCheckFailedException(refused) => {
                    Ok(Applied::Refused(refused.item.map(item)))
                }
                other => Err(refused(transition, &other)),
            },
            Err(error) => Err(failed(transition.action, &transition.task, &error)),
        }
    }

    /// The record of a transition that leaves one. There is one whenever an update was done, and whenever a condition that
    /// allows for none was refused.
    fn present(&self, transition: &Transition, record: Option<Record>) -> Result<Box<Record>, TableError> {
        record.map(Box::new).ok_or_else(|| TableError::Call {
            action: transition.action,
            task: transition.task.to_string(),
            reason: format!("the table {} holds no such task", self.name),
        })
    }
}

fn key(task: &TaskKey) -> AttributeValue {
    AttributeValue::S(task.to_string())
}

fn record(item: &Item) -> Result<Record, TableError> {
    Ok(Record::from_item(item)?)
}

fn refused(transition: &Transition, error: &impl ProvideErrorMetadata) -> TableError {
    TableError::Call { action: transition.action, task: transition.task.to_string(), reason: described_service(error) }
}

fn failed<E: ProvideErrorMetadata, R>(action: &'static str, task: &TaskKey, error: &SdkError<E, R>) -> TableError {
    TableError::Call { action, task: task.to_string(), reason: described(error) }
}
