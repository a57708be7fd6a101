"""Face networks and face frames, with random weights, networks that see coloured squares, and the real weights."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import hf_fusion.models.media_face as media_face
from hf_fusion.media.drawn_face import draw_face
from hf_fusion.media.face_weights import load_face_weights
from hf_fusion.models.media_face import (
    BLENDSHAPE_LANDMARKS,
    CHIN,
    FACE_COLUMNS,
    FOREHEAD,
    LEFT_EYE,
    NUM_LANDMARKS,
    RIGHT_EYE,
    DetectorBlock,
    FaceFrames,
    FaceNetworks,
    MeshBlock,
    describe_pose,
    detector_anchors,
)

_SHARED = Path(__file__).parents[3] / "shared" / "data" / "face" / "face_landmarker.task"
TASK = Path(os.environ.get("HF_FUSION_FACE_TASK") or _SHARED)
FACE, SIZE, X, Y, ROLL = (FACE_COLUMNS.index(name) for name in ("face", "size", "x", "y", "roll"))


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return FaceNetworks()


def test_columns():
    assert len(FACE_COLUMNS) == len(set(FACE_COLUMNS)) == 58
    assert len(BLENDSHAPE_LANDMARKS) == 146 and max(BLENDSHAPE_LANDMARKS) < NUM_LANDMARKS


class TestNetworks:
    """Outputs of random weights against operations that are written out."""

    def pad_same(self, x, kernel, stride):
        """Zeros as TensorFlow adds them: as few as each stride needs, the odd one at the right and below."""
        sides = []
        for length in (x.shape[3], x.shape[2]):
            total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            sides += [total // 2, total - total // 2]
        return F.pad(x, sides)

    def convolve(self, layer, x):
        """One output pixel at a time."""
        kernel, stride = layer.kernel_size[0], layer.stride[0]
        bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias
        x = self.pad_same(x, kernel, stride)
        weight = layer.weight
        if layer.groups > 1:  # one filter for each channel
            weight = torch.diag_embed(weight[:, 0].permute(1, 2, 0)).permute(2, 3, 0, 1)
        rows = range(0, x.shape[2] - kernel + 1, stride)
        columns = range(0, x.shape[3] - kernel + 1, stride)
        pixels = [
            torch.einsum("nchw,ochw->no", x[:, :, i : i + kernel, j : j + kernel], weight) + bias
            for i in rows
            for j in columns
        ]
        return torch.stack(pixels, dim=2).unflatten(2, (len(rows), len(columns)))

    def shortcut(self, x, channels, stride):
        x = F.max_pool2d(x, stride)
        return F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1]))

    @pytest.mark.parametrize(("channels", "stride"), [((6, 6), 1), ((6, 9), 1), ((6, 9), 2)])
    @torch.no_grad()
    def test_detector_block(self, channels, stride):
        block, x = DetectorBlock(*channels, stride), torch.randn(2, channels[0], 8, 8)
        expected = self.convolve(block.pointwise, self.convolve(block.depthwise, x))
        expected = F.relu(expected + self.shortcut(x, channels[1], stride))
        torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize(("channels", "stride"), [((6, 3, 6), 1), ((6, 3, 9), 2), ((6, 3, 6), 2)])
    @torch.no_grad()
    def test_mesh_block(self, channels, stride):
        block, x = MeshBlock(*channels, stride), torch.randn(2, channels[0], 8, 8)
        block.activation.weight.uniform_(-1, 2)
        hidden = block.reduce_activation(self.convolve(block.reduce, x))
        expected = self.convolve(block.expand, self.convolve(block.depthwise, hidden))
        expected = block.activation(expected + self.shortcut(x, channels[2], stride))
        torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)

    @torch.no_grad()
    def test_stems_start_at_the_first_pixel(self, networks):
        for network, size in ((networks.detector, 128), (networks.mesh, 256)):
            stems, x = [], torch.randn(1, 3, size, size)
            hook = network.stem.register_forward_hook(lambda layer, inputs, output, stems=stems: stems.append(output))
            network(x)
            hook.remove()
            kernel = network.stem.kernel_size[0]
            expected = network.stem(self.pad_same(x, kernel, 2))
            assert stems[0].shape[2:] == (size // 2, size // 2)
            torch.testing.assert_close(stems[0].relu(), expected.relu())  # that of the detector is changed in place

    @torch.no_grad()
    def test_outputs(self, networks):
        boxes, scores = networks.detector(torch.rand(2, 3, 128, 128) * 2 - 1)
        landmarks, presence = networks.mesh(torch.rand(2, 3, 256, 256))
        assert boxes.shape == (2, 896, 16) and scores.shape == (2, 896)
        assert landmarks.shape == (2, NUM_LANDMARKS, 3) and presence.shape == (2,)

    @torch.no_grad()
    def test_a_box_and_its_score_are_those_of_the_anchor_at_their_place(self, networks):
        """What is drawn into the right half changes the rows whose anchors are there, of boxes and scores alike."""
        x = torch.zeros(1, 3, 128, 128)
        changed = x.clone()
        changed[..., 126:] = 1
        for before, after in zip(networks.detector(x), networks.detector(changed), strict=True):
            rows = (before - after).abs().reshape(896, -1).amax(1)
            assert rows[detector_anchors()[:, 0] < 0.05].max() < rows[detector_anchors()[:, 0] > 0.95].min()

    @torch.no_grad()
    def test_a_picture_is_read_as_if_it_were_alone(self, networks):
        """In batches of more and of fewer than 16, which torch has other kernels for."""
        for network, x in (
            (networks.detector, torch.randn(17, 3, 128, 128)),
            (networks.mesh, torch.rand(5, 3, 256, 256)),
        ):
            together = network(x.contiguous(memory_format=torch.channels_last))
            alone = [network(x[i : i + 1]) for i in range(len(x))]
            for outputs, single in zip(together, zip(*alone, strict=True), strict=True):
                torch.testing.assert_close(outputs, torch.cat(single), atol=1e-5, rtol=1e-5)

    def test_anchors(self):
        anchors = detector_anchors()
        assert anchors.shape == (896, 2)
        assert anchors[:4].tolist() == [[1 / 32, 1 / 32], [1 / 32, 1 / 32], [3 / 32, 1 / 32], [3 / 32, 1 / 32]]
        assert anchors[511].tolist() == [31 / 32, 31 / 32]
        assert anchors[512 + 6 * 9].tolist() == [3 / 16, 3 / 16]

    @torch.no_grad()
    def test_blendshapes_do_not_depend_on_place_and_size(self, networks):
        landmarks = torch.rand(3, 146, 2) * 100
        expected = networks.blendshapes(landmarks)
        assert expected.shape == (3, 52) and (expected > 0).all() and (expected < 1).all()
        torch.testing.assert_close(networks.blendshapes(landmarks * 3 - 50), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(networks.blendshapes(landmarks[1:2]), expected[1:2], atol=1e-5, rtol=1e-5)

    @torch.no_grad()
    def test_blendshapes_step_by_step(self, networks):
        network = networks.blendshapes
        network.summary.weight.normal_()
        points = torch.rand(146, 2) * 100

        def apply(layer, x):
            return x @ layer.weight.T + layer.bias

        def normalise(layer, x):
            spread = x.var(1, unbiased=False, keepdim=True) + 1e-6
            return (x - x.mean(1, keepdim=True)) / spread.sqrt() * layer.weight

        points = points - points.mean(0)
        distance = points.square().sum(1).sqrt().mean()  # of a landmark from the middle: becomes .5
        x = apply(network.embedding, apply(network.tokens, (points / (2 * distance)).T).T)
        x = torch.cat([network.summary.weight[None], x])
        for layer in network.layers:
            tokens = normalise(layer.token_norm, x).T
            x = x + apply(layer.token_reduce, apply(layer.token_expand, tokens).relu()).T
            x = x + apply(layer.channel_reduce, apply(layer.channel_expand, normalise(layer.channel_norm, x)).relu())
        expected = 1 / (1 + torch.exp(-apply(network.blendshapes, x[0])))
        torch.testing.assert_close(network(points[None])[0], expected, atol=1e-5, rtol=1e-5)

    def test_saved_weights_come_back(self, networks):
        half = {name: values.half() for name, values in networks.state_dict().items()}
        loaded = FaceNetworks.from_state_dict(half)
        assert all(torch.equal(values, half[name].float()) for name, values in loaded.state_dict().items())
        assert not loaded.training and loaded.device.type == "cpu"


class TestCrop:
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 40, 60), dtype=np.uint8))

    def crop(self, *region, picture=None):
        return media_face._crop(self.picture if picture is None else picture, np.array(region, dtype=float))

    def test_pixel_by_pixel(self, monkeypatch):
        monkeypatch.setattr(media_face, "MESH_SIZE", 20)
        expected = self.picture[:, 10:30, 15:35] / 255
        torch.testing.assert_close(self.crop(25, 20, 20, 0), expected, atol=1e-5, rtol=0)
        # turned clockwise by a right angle, the left edge is read from the top
        torch.testing.assert_close(self.crop(25, 20, 20, np.pi / 2), expected.rot90(1, (1, 2)), atol=1e-4, rtol=0)

    def test_black_outside_the_picture(self, monkeypatch):
        monkeypatch.setattr(media_face, "MESH_SIZE", 20)
        crop = self.crop(0, 0, 20, 0)
        torch.testing.assert_close(crop[:, 10:, 10:], self.picture[:, :10, :10] / 255, atol=1e-5, rtol=0)
        assert not crop[:, :9].any() and not crop[:, :, :9].any()
        for region in ((-500, 20, 20, 0), (25, 900, 20, 1), (25, -20.5, 1, 0)):
            assert not self.crop(*region).any()

    def test_no_pixel_is_skipped(self):
        """A large region is averaged: stripes of one pixel become grey."""
        picture = torch.zeros(3, 1600, 1600, dtype=torch.uint8)
        picture[:, ::2] = 200
        crop = self.crop(800, 800, 1000, 0.3, picture=picture)
        assert (crop - 100 / 255).abs().max() < 0.02

    def test_landmarks_are_where_they_were_in_the_picture(self, networks):
        """The mesh "finds" the brightest point; crops are turned and partly outside of the picture."""
        picture = torch.zeros(3, 90, 120, dtype=torch.uint8)
        picture[:, 61:64, 31:34] = 255  # around (32.5, 62.5)

        class Brightest(torch.nn.Module):
            def forward(self, crops):
                brightest = (crops.mean(1) > 0.8).nonzero().float()
                points = [brightest[brightest[:, 0] == i, 1:].mean(0).flip(0) + 0.5 for i in range(len(crops))]
                landmarks = F.pad(torch.stack(points), (0, 1), value=25.6)[:, None].repeat(1, NUM_LANDMARKS, 1)
                return landmarks, torch.zeros(len(crops))

        faces = FaceFrames(FaceNetworks(), 10)
        faces.networks.mesh = Brightest()
        regions = np.array([[40, 50, 60, 0], [30, 70, 80, 0.7], [50, 60, 100, -2.5], [20, 60, 120, 1.6]])
        for region, (landmarks, score) in zip(
            regions, faces._find_landmarks([picture] * len(regions), regions), strict=True
        ):
            np.testing.assert_allclose(landmarks[:, :2], np.tile([32.5, 62.5], (NUM_LANDMARKS, 1)), atol=0.2)
            np.testing.assert_allclose(landmarks[:, 2], 0.1 * region[2], rtol=1e-5)  # depth has the scale of the region
            assert score == 0.5


class TestRegions:
    def detection(self, score, x, y, width, height=None, angle=0.0):
        turn = np.array([np.cos(angle), np.sin(angle)]) * width / 4
        return [score, x, y, width, height or width, x - turn[0], y - turn[1], x + turn[0], y + turn[1]]

    def test_detections_of_one_face_are_merged_by_their_scores(self):
        rows = [
            self.detection(0.9, 100, 50, 40),
            self.detection(0.6, 105, 50, 40),
            self.detection(0.8, 200, 80, 60, 50),
        ]
        regions = media_face._suppress(np.array(rows))
        np.testing.assert_allclose(regions, [[200, 80, 90, 0], [102, 50, 60, 0]])  # the larger face first

    def test_the_eyes_give_the_angle(self):
        for angle in (0.8, -0.8, 3.0):
            region = media_face._suppress(np.array([self.detection(0.9, 10, 10, 5, angle=angle)]))[0]
            assert region[3] == pytest.approx(angle)

    def test_no_detection(self):
        assert media_face._suppress(np.zeros((0, 9))).shape == (0, 4)
        assert media_face._nearest(np.ones(4), np.zeros((0, 4))) is None

    def test_nearest(self):
        regions = np.array([[0.0, 0, 10, 0], [6, 0, 10, 1], [40, 0, 10, 0]])
        assert media_face._nearest(np.array([5.0, 0, 10, 0]), regions) == 1
        assert media_face._nearest(np.array([20.0, 0, 10, 0]), regions) is None
        assert media_face._nearest(None, regions) is None

    def test_the_region_around_landmarks_is_turned_as_the_eyes_are(self):
        rng = np.random.default_rng(0)
        upright = rng.uniform(-1, 1, (NUM_LANDMARKS, 3)) * [20, 30, 5]
        upright[:4] = [[-20, 0, 0], [20, 0, 0], [0, -30, 0], [0, 30, 0]]
        upright[[RIGHT_EYE, LEFT_EYE], :2] = [[-10, -5], [10, -5]]
        for angle in (0.0, 0.7, -2.0):
            turned = upright.copy()
            turned[:, :2] = upright[:, :2] @ media_face._rotation(angle).T + [100, 60]
            np.testing.assert_allclose(media_face._surround(turned), [100, 60, 90, angle], atol=1e-9)

    @pytest.mark.parametrize(("height", "width", "count"), [(360, 640, 3), (640, 360, 3), (480, 640, 6), (256, 256, 9),
                                                            (1, 1, 1), (1, 300, 3), (100, 300, 3)])  # fmt: skip
    def test_tiles_cover_the_picture(self, height, width, count):
        tiles = media_face._tiles(height, width)
        assert len(tiles) == count
        seen = np.zeros((height, width), bool)
        for left, top, side in tiles:
            assert left >= 0 and top >= 0
            seen[top : top + side, left : left + side] = True
        missing = np.argwhere(~seen)  # a narrow strip above and below a wide picture
        assert len(missing) <= 0.12 * height * width


class TestPose:
    def head(self, pitch=0.0, yaw=0.0, roll=0.0):
        """Landmarks of a head that is turned; x to the right, y down, z away from the camera."""
        points = np.random.default_rng(0).uniform(-1, 1, (NUM_LANDMARKS, 3)) * [40, 50, 30]
        points[[RIGHT_EYE, LEFT_EYE, FOREHEAD, CHIN]] = [[-20, -10, 0], [20, -10, 0], [0, -50, 0], [0, 50, 0]]
        about = lambda axis, angle: np.array(_about(axis, angle))  # noqa: E731
        return (points @ (about(2, roll) @ about(1, yaw) @ about(0, pitch)).T)[None]

    def test_angles(self):
        sizes = np.array([[640, 360]])
        for name, column in (("pitch", 0), ("yaw", 1), ("roll", 2)):
            for angle in (-0.6, 0.3):
                pose = describe_pose(self.head(**{name: angle}), sizes)[0, :3]
                expected = np.zeros(3)
                expected[column] = angle
                np.testing.assert_allclose(pose, expected, atol=1e-9)

    def test_place_and_size(self):
        points = np.zeros((1, NUM_LANDMARKS, 3))
        points[0, :, 0], points[0, :, 1] = np.linspace(100, 300, NUM_LANDMARKS), np.linspace(50, 150, NUM_LANDMARKS)
        points[0, [RIGHT_EYE, LEFT_EYE, FOREHEAD, CHIN]] = [[150, 80, 0], [250, 80, 0], [200, 60, 0], [200, 140, 0]]
        np.testing.assert_allclose(describe_pose(points, np.array([[400, 200]]))[0, 3:], [0.5, 0.5, 0.5])


def _about(axis, angle):
    first, second = [i for i in range(3) if i != axis]
    turn = np.eye(3)
    turn[first, first] = turn[second, second] = np.cos(angle)
    sign = 1 if axis != 1 else -1
    turn[first, second], turn[second, first] = -sign * np.sin(angle), sign * np.sin(angle)
    return turn


class Squares(FaceNetworks):
    """
    Networks that take coloured squares for faces: red is the mark, green says which face it is, and blue whether the
    mesh confirms it. The detector misses squares of fewer than 8 of its pixels, and those whose number is in `missed`.
    """

    def __init__(self):
        super().__init__()
        self.missed, self.meshes, self.detected = set(), 0, 0
        self.detector.forward, self.mesh.forward = self.detect, self.find
        self.blendshapes.forward = lambda points: points.flatten(1)[:, :52] * 0 + self.last

    def detect(self, squares):
        self.detected += len(squares)
        anchors = detector_anchors() * 128
        boxes, scores = torch.zeros(len(squares), 896, 16), torch.full((len(squares), 896), -9.0)
        for row, square in enumerate((squares + 1) * 127.5):
            for number in range(1, 5):
                mask = (square[0] > 150) & ((square[1] - 40 * number).abs() < 15)
                ys, xs = mask.nonzero().unbind(1)
                if number in self.missed or not len(xs) or (width := xs.max() - xs.min() + 1) < 8:
                    continue
                x, y = xs.float().mean() + 0.5, ys.float().mean() + 0.5
                corner = torch.tensor([x, y]) - anchors[number]
                eyes = torch.tensor([-0.2, 0.0, 0.2, 0.0]) * width + corner.repeat(2)
                boxes[row, number, :8] = torch.cat([corner, torch.stack([width, width]).float(), eyes])
                scores[row, number] = 3.0
        return boxes, scores

    def find(self, crops):
        self.meshes += len(crops)
        middle = crops[:, :, 118:138, 118:138].mean((2, 3)) * 255
        sure = (middle[:, 0] > 150) & (middle[:, 2] < 100)
        grid = torch.linspace(0, 1, NUM_LANDMARKS) * 2 * np.pi
        circle = torch.stack([128 + 85.3 * grid.cos(), 128 + 85.3 * grid.sin(), 0 * grid], dim=1)
        circle[[RIGHT_EYE, LEFT_EYE]] = torch.tensor([[100.0, 100, 0], [156, 100, 0]])
        return circle.expand(len(crops), -1, -1), torch.where(sure, 9.0, -9.0)

    last = 0.25


def square_picture(*faces, height=180, width=320):
    """Faces: (number, x, y, side) and whether the mesh confirms them."""
    picture = np.full((height, width, 3), 30, np.uint8)
    for number, x, y, side, *confirmed in faces:
        left, top = max(0, int(x - side / 2)), max(0, int(y - side / 2))
        picture[top : int(y + side / 2), left : int(x + side / 2)] = (
            220,
            40 * number,
            20 if confirmed != [False] else 220,
        )
    return picture


def follow(pictures, networks=None):
    faces = FaceFrames(networks or Squares(), 10)
    for picture in pictures:
        faces.feed(picture)
    return faces.finish()


class TestFaceFrames:
    def test_place_size_and_flag(self):
        frames = follow([square_picture((1, 100, 90, 60)), square_picture()])
        assert frames.dtype == np.float32 and frames.shape == (2, 58)
        np.testing.assert_allclose(frames[0, [X, Y, SIZE, FACE]], [100 / 320, 90 / 180, 60 / 320, 1], atol=0.02)
        np.testing.assert_allclose(frames[0, :51], 0.25)
        assert not frames[1].any()

    def test_the_largest_that_the_mesh_confirms(self):
        frames = follow([square_picture((1, 60, 90, 40), (2, 160, 90, 60), (3, 270, 90, 80, False))])
        assert frames[0, X] == pytest.approx(160 / 320, abs=0.02)

    def test_the_same_face_while_it_is_there(self):
        """Though another one becomes larger, and both move; when it leaves, the other one is followed."""
        pictures = [square_picture((1, 80 + 4 * i, 90, 60), (2, 240 - 2 * i, 90, 40 + 5 * i)) for i in range(8)]
        pictures += [square_picture((2, 230, 90, 70)), square_picture((1, 110, 90, 60), (2, 230, 90, 50))]
        place = follow(pictures)[:, X] * 320
        np.testing.assert_allclose(place[:8], 80 + 4 * np.arange(8), atol=3)
        np.testing.assert_allclose(place[8:], 230, atol=3)

    def test_a_face_that_leaves_and_comes_back(self):
        frames = follow([square_picture((1, 90, 90, 60)), square_picture(), square_picture((1, 250, 60, 50))])
        assert frames[:, FACE].tolist() == [1, 0, 1]
        assert frames[2, X] == pytest.approx(250 / 320, abs=0.02)

    def test_a_cut_to_another_person(self):
        frames = follow([square_picture((1, 80, 90, 60))] * 3 + [square_picture((2, 250, 90, 70))] * 3)
        np.testing.assert_allclose(frames[:, X] * 320, [80] * 3 + [250] * 3, atol=3)

    def test_a_face_that_the_detector_misses_is_where_it_was(self):
        networks = Squares()
        faces = FaceFrames(networks, 10)
        for _ in range(media_face._BLOCK):
            faces.feed(square_picture((1, 90, 90, 60), (2, 250, 90, 30)))
        networks.missed.add(1)
        for i in range(3):
            faces.feed(square_picture((1, 92 + 2 * i, 90, 60), (2, 250, 90, 30)))
        frames = faces.finish()
        np.testing.assert_allclose(frames[:, X] * 320, 90, atol=4)

    @pytest.mark.parametrize("x", [20, 160, 300])
    def test_small_faces(self, x):
        """Too small for the detector in the whole picture, wherever they are; then followed without it."""
        networks = Squares()
        frames = follow([square_picture((1, x, 90, 14))] * 4, networks)
        assert frames[:, FACE].all()
        np.testing.assert_allclose(frames[:, X] * 320, x, atol=2)
        assert networks.detected == 4 + 3  # pictures, and the tiles of the first one

    def test_pictures_without_a_face_cost_no_mesh(self):
        networks = Squares()
        follow([square_picture()] * 5, networks)
        assert networks.meshes == 0

    def test_each_picture_with_a_face_costs_one_mesh(self):
        networks = Squares()
        follow([square_picture((1, 80 + 3 * i, 90, 60), (2, 240, 90, 50)) for i in range(20)], networks)
        assert networks.meshes == 20

    def test_a_crowd_of_unconfirmed_faces_is_bounded(self):
        networks = Squares()
        crowd = [(number, 40 + 70 * (number - 1), 90, 40, False) for number in range(1, 5)]
        assert not follow([square_picture(*crowd)], networks).any()
        assert networks.meshes <= 1 + 2 * media_face._MOST_CANDIDATES

    @pytest.mark.parametrize("block", [1, 3, 5])
    def test_blocks_change_nothing(self, block, monkeypatch):
        rng = np.random.default_rng(1)
        pictures = []
        for i in range(23):
            faces = [(1, 80 + 5 * i, 90, 50), (2, 250 - 5 * i, 80, 40 + i), (3, 160, 30, 12)]
            picture = square_picture(*[face for face in faces if rng.random() < 0.4])
            pictures.append(picture if i % 7 else picture[:, 20:300])  # the size of a video may change
        expected = follow(pictures)
        assert 0 < expected[:, FACE].sum() < 23
        monkeypatch.setattr(media_face, "_BLOCK", block)
        np.testing.assert_allclose(follow(pictures), expected, atol=1e-5)

    def test_only_one_block_of_pictures_is_held(self):
        faces = FaceFrames(Squares(), 10)
        for _ in range(3 * media_face._BLOCK + 1):
            faces.feed(square_picture())
        assert len(faces._pictures) == 1

    def test_a_picture_may_change_after_it_was_fed(self):
        picture = square_picture((1, 90, 90, 60))
        faces = FaceFrames(Squares(), 10)
        faces.feed(picture)
        picture[:] = 0
        assert faces.finish()[0, FACE] == 1

    def test_turned_views_of_arrays(self):
        upright = square_picture((1, 90, 120, 60), height=200, width=200)
        turned = np.rot90(upright.copy(), 1)
        np.testing.assert_allclose(follow([np.rot90(turned, -1)]), follow([upright]))

    def test_no_picture(self):
        assert follow([]).shape == (0, 58)

    @pytest.mark.parametrize("shape", [(1, 1), (2, 900), (900, 2)])
    def test_odd_shapes(self, shape, networks):
        assert follow([np.zeros((*shape, 3), np.uint8)], networks).shape == (1, 58)

    @pytest.mark.parametrize(
        "picture",
        [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
    )
    def test_other_arrays_are_refused(self, picture):
        with pytest.raises(ValueError, match=r"array of uint8 of shape \(height, width, 3\), not"):
            FaceFrames(Squares(), 10).feed(picture)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The networks with Google's weights."""
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HOME", str(tmp_path_factory.mktemp("home")))
        return FaceNetworks.from_state_dict(load_face_weights(TASK).state_dict())


@pytest.mark.data
@pytest.mark.skipif(not TASK.is_file(), reason="face_landmarker.task is not part of the repository")
class TestRealWeights:
    """With a face that is drawn."""

    def look(self, real, *faces, shape=(360, 640)):
        pictures = []
        for face in faces:
            pictures.append(np.full((*shape, 3), 90, np.uint8))
            if face is not None:
                draw_face(pictures[-1], **face)
        return follow(pictures, real)

    @torch.no_grad()
    def test_outputs_of_the_original_graphs(self, real):
        """A few values, as another implementation computes them from the graphs in the file."""

        def waves(size):
            channel, y, x = torch.meshgrid(*(torch.arange(float(n)) for n in (3, size, size)), indexing="ij")
            return (0.5 + 0.5 * torch.sin(0.05 * y * (channel + 1) + 0.03 * x))[None]

        boxes, scores = real.detector(waves(128) * 2 - 1)
        landmarks, score = real.mesh(waves(256))
        points = torch.stack([torch.arange(146) * 1.7 % 50, torch.arange(146) * 2.3 % 70], dim=1)[None]
        blendshapes = real.blendshapes(points)
        for actual, expected in (
            (boxes[0, [100, 600], :4], [[-0.13526, 0.31990, 24.740, 24.739], [0.025201, -2.4229, 100.86, 100.85]]),
            (scores[0, [100, 600]], [-5.4229, -4.4708]),
            (landmarks[0, [0, 300]], [[115.8372, 144.5117, -20.1104], [204.6297, 74.8379, 3.5777]]),
            (score, [-18.7078]),
            (blendshapes[0, :6], [0.0010, 0.3985, 0.3429, 0.0503, 0.4153, 0.0501]),
        ):
            torch.testing.assert_close(actual, torch.tensor(expected), atol=1e-3, rtol=1e-4)

    @pytest.mark.parametrize("angle", [-0.78, 0.0, 0.78])
    @pytest.mark.parametrize(("x", "y", "size"), [(320, 180, 200), (100, 100, 60), (600, 300, 60), (320, 180, 500)])
    def test_place_size_and_roll(self, real, x, y, size, angle):
        frame = self.look(real, {"x": x, "y": y, "size": size, "angle": angle})[0]
        assert frame[FACE] == 1
        np.testing.assert_allclose(frame[[X, Y]], [x / 640, y / 360], atol=0.15 * size / 360)
        assert frame[SIZE] == pytest.approx(0.8 * size / 640, rel=0.2)
        assert frame[ROLL] == pytest.approx(angle, abs=0.06)

    def test_a_smile(self, real):
        column = FACE_COLUMNS.index("mouthSmileLeft")
        frames = self.look(real, *({"x": 320, "y": 180, "size": 250, "smile": smile} for smile in (0, 1)))
        assert frames[0, column] < 0.1 < 0.5 < frames[1, column]

    def test_no_face(self, real):
        noise = np.random.default_rng(0).integers(0, 256, (3, 180, 320, 3), dtype=np.uint8)
        assert not follow([*noise, np.zeros((180, 320, 3), np.uint8)], real).any()

    def test_blocks_change_nothing(self, real, monkeypatch):
        faces = [
            {"x": 100 + 15 * i, "y": 90, "size": 80 + 5 * i, "angle": 0.1 * i} if i % 4 else None for i in range(9)
        ]
        expected = self.look(real, *faces, shape=(180, 320))
        assert expected[:, FACE].tolist() == [float(i % 4 > 0) for i in range(9)]
        monkeypatch.setattr(media_face, "_BLOCK", 1)
        np.testing.assert_allclose(self.look(real, *faces, shape=(180, 320)), expected, atol=1e-5)
