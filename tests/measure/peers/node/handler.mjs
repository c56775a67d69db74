// The work of `callback` with the AWS SDK for JavaScript v3: one conditional write, one message.

import { createHmac, timingSafeEqual } from "node:crypto";
import { ConditionalCheckFailedException, DynamoDBClient, PutItemCommand } from "@aws-sdk/client-dynamodb";
import { GetSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";

const { CALLBACKS_TABLE, QUEUE_URL, SETTINGS_SECRET } = process.env;
const dynamodb = new DynamoDBClient({});
const sqs = new SQSClient({ md5: false });
const secret = await new SecretsManagerClient({}).send(new GetSecretValueCommand({ SecretId: SETTINGS_SECRET }));
const settings = JSON.parse(secret.SecretString);
const { keys } = settings.callback;
const secrets = settings.providers.kling.signing_secrets.map((text) => Buffer.from(text.replace(/^whsec_/, ""), "base64"));

const response = (statusCode, body) =>
  ({ statusCode, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

const isEqual = (given, expected) => given.length === expected.length && timingSafeEqual(given, expected);

const isValid = (key, name, token) =>
  isEqual(Buffer.from(token, "base64url"), createHmac("sha256", key).update(name).digest().subarray(0, 16));

const isSigned = ({ headers, body }) => {
  const timestamp = headers["webhook-timestamp"];
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > 300) return false;
  const signed = `${headers["webhook-id"]}.${timestamp}.${body}`;
  const expected = secrets.map((key) => createHmac("sha256", key).update(signed).digest());
  const given = headers["webhook-signature"].split(" ").map((part) => Buffer.from(part.replace(/^v1,/, ""), "base64"));
  return given.some((one) => expected.some((other) => isEqual(one, other)));
};

export const handler = async (event) => {
  const [, , provider, id, token] = event.rawPath.split("/");
  const task = `${provider}/${id}`;
  if (!keys.some((key) => isValid(key, task, token)) || !isSigned(event)) {
    return response(401, { error: "the token or the signature is not valid" });
  }
  const { id: providerTaskId, status, outputs } = JSON.parse(event.body);
  const report = { id: providerTaskId, status, url: outputs[0].url };
  const Item = {
    task: { S: task },
    state: { S: "pending" },
    report: { S: JSON.stringify(report) },
    raw: { S: event.body },
    created_at: { N: String(Math.floor(Date.now() / 1000)) },
  };
  try {
    const ConditionExpression = "attribute_not_exists(task)";
    await dynamodb.send(new PutItemCommand({ TableName: CALLBACKS_TABLE, Item, ConditionExpression }));
  } catch (error) {
    if (error instanceof ConditionalCheckFailedException) return response(200, { duplicate: true });
    throw error;
  }
  await sqs.send(new SendMessageCommand({ QueueUrl: QUEUE_URL, MessageBody: JSON.stringify({ task }) }));
  return response(200, { received: true });
};
