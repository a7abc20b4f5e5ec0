/** Pictures of the camera as PNG files. They are not sent anywhere. */

let stream = null;

/** Start the camera and show it. Throws where there is none, or it is not allowed. */
export async function startCamera(video) {
  if (!navigator.mediaDevices) throw new Error("the camera needs https or localhost");
  stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  video.srcObject = stream;
  await video.play();
}

export function stopCamera(video) {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
}

/** Return the present picture as a PNG file. */
export async function shot(video) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  return new Uint8Array(await blob.arrayBuffer());
}
