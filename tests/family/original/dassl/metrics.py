def compute_accuracy(output, target):
    return [(output.argmax(dim=1) == target).float().mean().mul(100).view(1)]
