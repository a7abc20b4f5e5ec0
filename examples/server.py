"""Classify pictures over HTTP, also by the Open Inference Protocol. Needs fastapi, uvicorn and python-multipart."""

import argparse
import asyncio
import json
import os

import numpy as np
import uvicorn
from cnn_infer import Classifier, EdgeCNNError, verify_all
from fastapi import Depends, FastAPI, Request
from starlette import exceptions as http, requests
from starlette.responses import JSONResponse, Response

MOST_BYTES, PLACES, PROCESSORS = 16 << 20, asyncio.Semaphore(32), asyncio.Semaphore(os.cpu_count() or 1)
app = FastAPI()
app.exception_handler(http.HTTPException)(lambda _, e: JSONResponse({"error": e.detail}, e.status_code, e.headers))


async def body(request: Request):
    if PLACES.locked():
        raise http.HTTPException(503, "too many requests at once", {"Retry-After": "1"})
    if int(request.headers.get("content-length", MOST_BYTES + 1)) > MOST_BYTES:
        raise http.HTTPException(413, f"more than {MOST_BYTES} bytes, or no Content-Length")
    async with PLACES:
        try:
            data = await asyncio.wait_for(request.body(), timeout=30)
            async with PROCESSORS:
                yield data
        except (requests.ClientDisconnect, EdgeCNNError, KeyError, OSError, RuntimeError, TypeError, ValueError) as e:
            raise http.HTTPException(400, f"{type(e).__name__}: {e}") from e


@app.post("/classify")
async def classify(request: Request, data: bytes = Depends(body)):
    parts = (await request.form()).multi_items() if "multipart" in request.headers.get("content-type", "") else []
    pictures = [await part.read() for _, part in parts if not isinstance(part, str)] or [data]
    return {"predictions": await asyncio.to_thread(list, clf.predict_many(pictures))}


@app.post("/v2/models/model/infer")
def infer(request: Request, data: bytes = Depends(body)):
    length = int(request.headers.get("inference-header-content-length", len(data)))
    query = json.loads(data[:length])
    tensor = {(one["name"], one["datatype"]): one for one in query["inputs"]}["image", "UINT8"]
    pixels = np.frombuffer(data[length:] or bytes(np.ravel(tensor["data"]).tolist()), np.uint8)
    found = clf.probabilities(pixels.reshape(tensor["shape"]))
    output = {"name": "probabilities", "datatype": "FP32", "shape": found.shape, "data": found.ravel().tolist()}
    outputs = [{"probabilities": output}[asked["name"]] for asked in query.get("outputs", [output])]
    return {"model_name": "model", "model_version": "1", "id": query.get("id", ""), "outputs": outputs}


class _Server(uvicorn.Server):
    async def main_loop(self):
        await super().main_loop()  # until a signal; then it is not ready, but answers for two seconds what still comes
        self.server_state.default_headers.append((b"connection", b"close"))
        await asyncio.sleep(2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a model file that cnn-export wrote")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    server = _Server(uvicorn.Config(app, options.host, options.port, access_log=False))
    app.get("/v2")(lambda: {"name": "edgecnn", "version": "1", "extensions": []})
    for path in ("health/live", "health/ready", "models/model/ready"):
        app.get(f"/v2/{path}")(lambda: Response(status_code=503 if server.should_exit else 200))
    try:
        clf = Classifier(options.model, max_bytes=MOST_BYTES)
        verify_all(clf).passed or parser.exit(1, "this machine gives other answers: run cnn-infer --verify\n")
        image = {"name": "image", "datatype": "UINT8", "shape": [-1, *clf.spec.shape]}
        output = {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(clf.spec.classes)]}
        about = {"name": "model", "versions": ["1"], "platform": "onnxruntime", "inputs": [image], "outputs": [output]}
        app.get("/v2/models/model")(lambda: about)
        server.run()
    except (EdgeCNNError, KeyboardInterrupt) as error:
        parser.exit(1, f"{error}\n")
