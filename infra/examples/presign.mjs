// Prints links to the files of a task, for whoever may see them for an hour. Exits with 1 if there is no result.
//
//     npm install @aws-sdk/client-s3 @aws-sdk/s3-request-presigner
//     node presign.mjs BUCKET kling/job-1

import { GetObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const [bucket, task] = process.argv.slice(2);
// An endpoint of one's own is an emulator, which has one address for all buckets.
const s3 = new S3Client({ forcePathStyle: Boolean(process.env.AWS_ENDPOINT_URL) });
const object = (key) => new GetObjectCommand({ Bucket: bucket, Key: key });
const response = await s3.send(object(`tasks/${task}/result.json`));
const result = JSON.parse(await response.Body.transformToString());
if (result.outcome !== "succeeded") {
  console.error(`${task} ${result.outcome}: ${result.failure.reason}: ${result.failure.message ?? ""}`);
  process.exit(1);
}
for (const artifact of result.artifacts) {
  console.log(artifact.kind, await getSignedUrl(s3, object(artifact.key), { expiresIn: 3600 }));
}
